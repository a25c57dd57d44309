import { dirname, resolve } from 'node:path';
import { openArchive } from '../archive/index.js';
import { openFreezer } from '../cgroup/index.js';
import { placesFor, PrivateDir } from '../checkpoint/base/private-dir.js';
import { Phases } from '../checkpoint/events/phases.js';
import { Guardian } from '../checkpoint/guardian/guardian.js';
import { STATE_DIR } from '../state-dir.js';
import { journalRestore } from '../checkpoint/guardian/lock.js';
import { findChangedFiles } from '../checkpoint/warnings/find-changed-files.js';
import { restoreLocks, type LostLock } from '../checkpoint/restore/restore-locks.js';
import { Undo } from '../checkpoint/restore/undo.js';
import { mappedLocksNotHeld } from '../checkpoint/warnings/locks-on-mapped-files.js';
import { recordedWarnings } from '../checkpoint/warnings/recorded.js';
import { statesNotRestored } from '../checkpoint/warnings/task-state.js';
import { warning, type Warning } from '../checkpoint/warnings/warning.js';
import { Warnings } from '../checkpoint/warnings/warnings.js';
import { doubtCriu, findCriu } from '../criu/index.js';
import { archivedLocks } from './documents/archived-locks.js';
import type { DroppedSetting } from './documents/archived-spec.js';
import { recordedContainer } from './documents/recorded-container.js';
import { verifyContainerArchive } from './documents/verify-container.js';
import type { RuntimeName } from './model/container.js';
import { criuForRuntime } from './runtimes/criu-for-runtime.js';
import { restoreBundle } from './restore/by-bundle.js';
import { restorePodman } from './restore/by-podman.js';
import type { RestoredContainer } from './restore/plan.js';
import { checkContainerRestoreOptions, type ContainerRestoreOptions } from './restore/options.js';

export interface ContainerRestoreReport {
  runtime: RuntimeName;
  id: string;
  name: string;
  pid: number;
  /** What was left out of the configuration that the archive brought along: empty where the bundle had its own. */
  dropped: DroppedSetting[];
  /** Bind mounts of the container whose files were not in the archive: they are as this machine has them. */
  leftOut: { source: string; destination: string }[];
  /** What is not as it was at the checkpoint. With `strict` none. */
  warnings: Warning[];
  totalMs: number;
  phasesMs: Phases['durationsMs'];
}

/** How long a runtime may go on without us. */
const RUNTIME_MS = 30_000;

/**
 * Restores a container from an archive, through its runtime: so it is one of that runtime's containers again. The
 * archive is verified before anything is changed, and the container is seen running at the end.
 *
 * When this process dies meanwhile, the runtime ends what it has begun, for up to half a minute; then its guardian
 * removes the images.
 *
 * runc, crun: the bundle's root file system is made what the container's was. It stays so when the restore fails, but
 * for an archive of a whole root file system, whose root has to be empty, and is then empty again; a config.json that
 * was written does not stay.
 * @throws ArchiveError, ContainerError NOT_A_CONTAINER_CHECKPOINT, FOREIGN_CHECKPOINT, CONTAINER_EXISTS,
 * RUNTIME_MISSING, RUNTIME_FAILED, BUNDLE_UNREADABLE, ROOTFS_MISSING, ROOTFS_NOT_EMPTY, BAD_OPTION, FreezerError
 */
export async function restoreContainer(options: ContainerRestoreOptions): Promise<ContainerRestoreReport> {
  checkContainerRestoreOptions(options);
  const { signal } = options;
  const phases = new Phases('restore', options);
  const warnings = new Warnings(phases, options.strict ?? false);
  const besideArchive = dirname(resolve(options.archive));
  const workDir = options.workDir === undefined ? undefined : resolve(options.workDir);
  signal?.throwIfAborted();

  const stateDir = resolve(options.stateDir ?? STATE_DIR);
  const criu = await findCriu({ criuPath: options.criuPath, stateDir, signal });
  await using archive = await openArchive(options.archive, {
    tmpDir: workDir ?? besideArchive,
    maxUnpackedBytes: options.maxUnpackedBytes,
    signal,
  });
  const verified = await phases.run('verify', () =>
    verifyContainerArchive(archive, { signal, onProgress: phases.bytesOf('verify') }),
  );
  const subject = recordedContainer(verified);
  const recorded = recordedWarnings(verified.manifest.subject);
  const changed = await findChangedFiles(recorded, signal);
  if (changed.length > 0) warnings.add(warning('FILES_CHANGED', { files: changed }));
  using journal = journalRestore(resolve(options.archive), stateDir);
  await using guardian = await phases.run('guardian', () =>
    Guardian.arm({ journal, placeGuardianIn: options.placeGuardianIn, criuTimeoutMs: RUNTIME_MS, signal }),
  );
  await using privateDir = await PrivateDir.make(workDir ?? placesFor(besideArchive), guardian.hiddenNames);
  const locks = await archivedLocks(verified, privateDir.path);
  let lostLocks: LostLock[] = [];
  await using criuInPath = await criuForRuntime(
    privateDir.path,
    criu.path,
    locks.some(({ kind }) => kind === 'posix')
      ? async (root) => {
          lostLocks = await restoreLocks(locks, root);
        }
      : undefined,
  );
  const { env } = criuInPath;
  const undo = new Undo();
  const plan = { options, phases, verified, subject, privateDir: privateDir.path, env, guardian, undo };
  let restored: RestoredContainer;
  try {
    restored = await (options.podman === undefined ? restoreBundle(plan) : restorePodman(plan));
    const { container } = restored;
    const [restoredBy, lost] = criuInPath.isDone
      ? (['stillframe', lostLocks] as const)
      : (['runtime', await mappedLocksNotHeld(locks, container.pid, signal)] as const);
    if (lost.length > 0) warnings.add(warning('LOCKS_LOST', { locks: [...lost], restoredBy }));
    const lostStates = await statesNotRestored(recorded, container.pid);
    if (lostStates.states.length + lostStates.more > 0) warnings.add(warning('STATE_LOST', lostStates));
  } catch (error) {
    await doubtCriu(stateDir);
    throw await undo.after(error);
  }
  const { container, dropped, hostMounts } = restored;
  // A container that was frozen when it was dumped, or whose image says so, would otherwise stand still.
  const freezer =
    container.cgroup === undefined ? openFreezer({ pid: container.pid }) : openFreezer({ cgroup: container.cgroup });
  await phases.run('thaw', () => freezer.thaw({ timeoutMs: options.thawTimeoutMs ?? 5000 }));
  const { runtime, id, name, pid } = container;
  // Also those that the manifest keeps silent about.
  const { leftOut = [] } = subject.container;
  const unsaid = hostMounts.filter(({ destination }) => !leftOut.some((said) => said.destination === destination));
  return {
    runtime,
    id,
    name,
    pid,
    dropped,
    leftOut: [...leftOut, ...unsaid],
    warnings: warnings.list,
    totalMs: phases.elapsedMs,
    phasesMs: phases.durationsMs,
  };
}
