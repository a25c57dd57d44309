import { checkpoint } from '../checkpoint/checkpoint.js';
import type { CheckpointOptions, CheckpointPlanOptions } from '../checkpoint/options.js';
import { planCheckpoint, type CheckpointPlan } from '../checkpoint/plan/plan-checkpoint.js';
import type { CheckpointReport } from '../checkpoint/events/report.js';
import { runningPids } from '../checkpoint/base/pids.js';
import type { CriuDumpOptions } from '../criu/index.js';
import type { Rendezvous, TargetParts } from '../checkpoint/window/target.js';
import { hasTcpConnections } from './target/connections.js';
import type { Container, RuntimeName } from './model/container.js';
import { containerTarget, type ContainerTarget, type ContainerTargetOptions } from './target/container-target.js';
import { OF_CHECKPOINT, refuseUnknown } from './option-names.js';
import type { OptionNames } from '../bad-option.js';
import { CONTAINER_NAME, findContainer, type ContainerName } from './runtimes/find-container.js';

/** A container by name, and what `checkpoint()` takes; the target's own options come from the container. */
export type ContainerCheckpointOptions = ContainerName &
  ContainerTargetOptions &
  Omit<CheckpointOptions, 'pid' | 'cgroup' | 'cgroupVersion' | 'adopt' | 'files' | 'parts'>;

export const CONTAINER_CHECKPOINT_OPTIONS: OptionNames<ContainerCheckpointOptions> = {
  ...CONTAINER_NAME,
  ...OF_CHECKPOINT,
  wholeRootfs: true,
};

export interface ContainerCheckpointReport extends CheckpointReport {
  container: { runtime: RuntimeName; id: string; name: string };
  /** Bind mounts whose files are not in the archive. */
  leftOut: ContainerTarget['leftOut'];
}

/**
 * Checkpoints a container into an archive that Podman, CRI-O, containerd and checkpointctl read. What is promised and
 * thrown is what `checkpoint()` promises and throws, and:
 * @throws ContainerError docs/errors.md says when each code comes
 */
export async function checkpointContainer(options: ContainerCheckpointOptions): Promise<ContainerCheckpointReport> {
  refuseUnknown(options, CONTAINER_CHECKPOINT_OPTIONS);
  const { runc, crun, podman, stateRoot, bundle, podmanOptions, ...rest } = options;
  rest.signal?.throwIfAborted();
  const container = await findContainer({ runc, crun, podman, stateRoot, bundle, podmanOptions });
  return checkpointFound(container, rest);
}

export type ContainerPlanOptions = Omit<ContainerCheckpointOptions, 'output'> &
  Pick<CheckpointPlanOptions, 'output' | 'observeMs'>;

const PLAN: OptionNames<ContainerPlanOptions> = {
  ...CONTAINER_CHECKPOINT_OPTIONS,
  observeMs: true,
};

/** What `checkpointContainer()` would do. */
export type ContainerCheckpointPlan = CheckpointPlan & Pick<ContainerCheckpointReport, 'container' | 'leftOut'>;

/**
 * What `checkpointContainer()` would do with these options, without doing it; see `planCheckpoint()`.
 * @throws ContainerError docs/errors.md says when each code comes; and what planCheckpoint throws
 */
export async function planContainerCheckpoint(options: ContainerPlanOptions): Promise<ContainerCheckpointPlan> {
  refuseUnknown(options, PLAN);
  const { runc, crun, podman, stateRoot, bundle, podmanOptions, wholeRootfs, ...rest } = options;
  rest.signal?.throwIfAborted();
  const container = await findContainer({ runc, crun, podman, stateRoot, bundle, podmanOptions });
  const { target, leftOut } = await containerTarget(container, { wholeRootfs });
  const plan = await planCheckpoint({ ...rest, ...target, criu: merged(target.criu, rest.criu) });
  const { runtime, id, name } = container;
  return { ...plan, container: { runtime, id, name }, leftOut };
}

/** The caller's options over the container's own; what is external to the container stays so. */
function merged(own: CriuDumpOptions = {}, given: CriuDumpOptions = {}): CriuDumpOptions {
  const external = [...(own.external ?? []), ...(given.external ?? [])];
  // Both at once would contradict each other.
  const connections = given.tcpClose === true ? { tcpEstablished: false } : {};
  return { ...own, ...connections, ...given, ...(external.length === 0 ? {} : { external }) };
}

/** The same for a container that has been found; `together` with others when they are to be of one instant. */
export async function checkpointFound(
  container: Container,
  { wholeRootfs, ...options }: Omit<ContainerCheckpointOptions, keyof ContainerName>,
  together?: Rendezvous,
): Promise<ContainerCheckpointReport> {
  let withConnections = false;
  const attempt = async (): Promise<ContainerCheckpointReport> => {
    const { target, leftOut } = await containerTarget(container, { wholeRootfs });
    withConnections = target.criu?.tcpEstablished === true;
    const parts = { ...target.parts, ...(together === undefined ? {} : { together }) } as TargetParts;
    const report = await checkpoint({ ...options, ...target, parts, criu: merged(target.criu, options.criu) });
    const { runtime, id, name } = container;
    return { ...report, container: { runtime, id, name }, leftOut };
  };
  try {
    return await attempt();
  } catch (error) {
    // A connection was made after we looked: CRIU refused the dump, the container runs on, and now we know.
    const isNew =
      !withConnections && options.criu?.tcpEstablished === undefined && hasTcpConnections(runningPids(container.pid));
    if (together !== undefined || !isNew) throw error;
    return attempt();
  }
}
