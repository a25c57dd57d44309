import { lstat, writeFile } from 'node:fs/promises';
import { Guardian } from '../checkpoint/guardian/guardian.js';
import { STATE_DIR } from '../state-dir.js';
import { journalPod } from '../checkpoint/guardian/lock.js';
import type { Rendezvous } from '../checkpoint/window/target.js';
import { openPlain, PrivateDirectory } from '../private-directory.js';
import { basename, dirname, join, resolve } from 'node:path';
import {
  checkpointFound,
  type ContainerCheckpointOptions,
  type ContainerCheckpointReport,
} from './checkpoint-container.js';
import type { Container } from './model/container.js';
import { ContainerError } from './model/container-error.js';
import { engineFacts } from './model/engine.js';
import { OF_CHECKPOINT, refuseUnknown } from './option-names.js';
import { without, type OptionNames } from '../bad-option.js';
import { findContainer, type ContainerName } from './runtimes/find-container.js';
import { containersBelow } from './runtimes/pod-members.js';
import { Meeting } from './pod-barrier.js';

export interface PodCheckpointOptions extends Omit<
  ContainerCheckpointOptions,
  keyof ContainerName | 'output' | 'overwrite'
> {
  /** The containers, by name... */
  containers?: readonly ContainerName[] | undefined;
  /** ...or the cgroup that all of them are in: the pod's. */
  parentCgroup?: string | undefined;
  /** With `parentCgroup`: the runtime's state directory. Default: those that runtimes and engines use are searched. */
  stateRoot?: string | undefined;
  /** The directory to make: one archive a container, and `pod.json`. It must not exist. */
  outputDir: string;
}

const OPTIONS: OptionNames<PodCheckpointOptions> = {
  ...without(OF_CHECKPOINT, ['output', 'overwrite'] as const),
  wholeRootfs: true,
  containers: true,
  parentCgroup: true,
  stateRoot: true,
  outputDir: true,
};

export interface PodCheckpointReport {
  directory: string;
  /** In between, every task of every container stood still: milliseconds since 1970. */
  instant: { fromMs: number; toMs: number };
  containers: (ContainerCheckpointReport & { archivePath: string })[];
}

/** `pod.json`: what belongs together. */
export interface PodManifest {
  format: 'stillframe-pod';
  version: 1;
  createdAt: string;
  instant: PodCheckpointReport['instant'];
  containers: { archive: string; runtime: string; id: string; name: string; windowMs: number }[];
}

/**
 * Checkpoints several containers in one instant: all are frozen, and seen frozen, before the first is dumped, and none
 * runs before the last is dumped. So their states fit together. When one fails, all run on, and there is no directory.
 * @throws as `checkpointContainer`; ContainerError OUTPUT_EXISTS, NO_SUCH_CONTAINER, ARCHIVES_KEPT
 */
export async function checkpointPod(options: PodCheckpointOptions): Promise<PodCheckpointReport> {
  refuseUnknown(options, OPTIONS);
  const { containers: names, parentCgroup, stateRoot, outputDir, ...rest } = options;
  options.signal?.throwIfAborted();
  if (typeof outputDir !== 'string' || outputDir === '' || outputDir.includes('\0'))
    throw new ContainerError('BAD_OPTION', { option: 'outputDir', value: outputDir, expected: 'a path' });
  const directory = resolve(outputDir);
  if (await lstat(directory).catch(() => undefined)) throw new ContainerError('OUTPUT_EXISTS', { path: directory });
  const containers = await members({ names, parentCgroup, stateRoot });

  using journal = journalPod(directory, resolve(rest.stateDir ?? STATE_DIR));
  await using guardian = await Guardian.arm({
    journal,
    placeGuardianIn: rest.placeGuardianIn,
    signal: options.signal,
  });
  const hidden = PrivateDirectory.make(await openPlain(dirname(directory)), guardian.hiddenNames);
  // By its descriptor: whoever can write to the parent could put another directory in its place.
  const fresh = hidden.lastingPath;
  let mayHaveEnded = false;
  try {
    const meeting = new Meeting(containers.length);
    const together: Rendezvous = {
      ...meeting.rendezvous,
      // With `stop` the containers are about to be ended: from here on the archives are all that is left of them, and
      // stay, if only under the hidden name, whatever becomes of us.
      sealed: async () => {
        await meeting.rendezvous.sealed();
        mayHaveEnded = true;
        guardian.forget(hidden.path);
      },
    };
    const archives = archiveNames(containers);
    const reports = await all(
      containers.map((container, i) =>
        checkpointFound(container, { ...rest, output: join(fresh, archives[i] as string) }, together),
      ),
      (error) => meeting.fail(error),
    );
    const instant = { fromMs: meeting.times.frozen ?? 0, toMs: meeting.times.dumped ?? 0 };
    const moved = reports.map((report, i) => ({ ...report, archivePath: join(directory, archives[i] as string) }));
    const manifest: PodManifest = {
      format: 'stillframe-pod',
      version: 1,
      createdAt: new Date(instant.fromMs).toISOString(),
      instant,
      containers: moved.map(({ archivePath, container, windowMs }) => ({
        archive: basename(archivePath),
        ...container,
        windowMs,
      })),
    };
    await writeFile(join(fresh, 'pod.json'), `${JSON.stringify(manifest, null, 2)}\n`, { mode: 0o600, flush: true });
    hidden.keepAs(basename(directory));
    return { directory, instant, containers: moved };
  } catch (error) {
    if (!mayHaveEnded) {
      await hidden.remove();
      throw error;
    }
    hidden.leave();
    throw new ContainerError('ARCHIVES_KEPT', { path: hidden.path, directory, cause: error });
  }
}

async function members({
  names,
  parentCgroup,
  stateRoot,
}: {
  names?: readonly ContainerName[] | undefined;
  parentCgroup?: string | undefined;
  stateRoot?: string | undefined;
}): Promise<Container[]> {
  if ((names === undefined) === (parentCgroup === undefined)) {
    throw new ContainerError('BAD_OPTION', {
      option: 'containers, parentCgroup',
      value: parentCgroup,
      expected: 'exactly one of them',
    });
  }
  const found =
    parentCgroup !== undefined
      ? await containersBelow(parentCgroup, stateRoot)
      : await Promise.all((names ?? []).map((name) => findContainer(name)));
  if (found.length === 0)
    throw new ContainerError('NO_SUCH_CONTAINER', {
      runtime: 'runc or crun',
      id: `in ${parentCgroup ?? 'an empty list'}`,
      searched: stateRoot === undefined ? ['the usual state directories'] : [stateRoot],
    });
  return found;
}

/** The containers' names in the pod, or their ids where two have the same. */
function archiveNames(containers: readonly Container[]): string[] {
  const names = containers.map(({ spec, name }) => (engineFacts(spec).containerName ?? name).replaceAll('/', '_'));
  return names.map(
    (name, i) => `${names.indexOf(name) === names.lastIndexOf(name) ? name : (containers[i] as Container).id}.tar`,
  );
}

/** Waits for every one, whatever the others do; then the first failure is the result. */
async function all<T>(work: readonly Promise<T>[], onFailure: (error: unknown) => void): Promise<T[]> {
  let first: { error: unknown } | undefined;
  const failed = (error: unknown): void => {
    first ??= { error };
    onFailure(error);
  };
  const results = await Promise.allSettled(
    work.map((promise) =>
      promise.catch((error: unknown) => {
        failed(error);
        throw error;
      }),
    ),
  );
  if (first !== undefined) throw first.error;
  return results.map((result) => (result as PromiseFulfilledResult<T>).value);
}
