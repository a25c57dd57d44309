import { lockCgroup, lockTarget } from './guardian/lock.js';
import { Guardian } from './guardian/guardian.js';
import { runningPids } from './base/pids.js';
import type { WindowSettings } from './base/check-option.js';
import type { Phases } from './events/phases.js';
import type { Target } from './window/target.js';
import { checkTree, ReadyTarget } from './window/ready-target.js';

export interface HeldTarget {
  target: ReadyTarget;
  /** The tree's processes when it was found. */
  pids: readonly number[];
  guardian: Guardian;
}

export interface HoldPlan<T> {
  options: T & { signal?: AbortSignal | undefined };
  settings: Pick<WindowSettings, 'stateDir' | 'placeGuardianIn'>;
  phases: Phases;
}

/**
 * Runs `work` while the target is locked, guarded and in a cgroup that holds nothing else. Afterwards everything is as
 * it was found, whatever became of the work.
 * @throws FreezerError; CheckpointError TARGET_BUSY, GUARDIAN_MISSING and the other codes of the guardian; the signal's
 * reason
 */
export async function withHeldTarget<T>(
  { options, settings, phases }: HoldPlan<Target>,
  work: (held: HeldTarget) => Promise<T>,
): Promise<T> {
  const { pid, signal } = options;
  const { stateDir, placeGuardianIn } = settings;
  const found = await phases.run('resolve', () => checkTree(options, signal));
  const cgroup = found && { version: found.freezer.version, path: found.freezer.path };
  using journal = await phases.run('lock', () => lockTarget({ pid, cgroup, stateDir, signal }));
  await using guardian = await phases.run('guardian', () => Guardian.arm({ journal, placeGuardianIn, signal }));
  await using target = await phases.run('adopt', () =>
    ReadyTarget.make(options, found?.freezer, {
      signal,
      onMaking: (path) => guardian.willMakeCgroup(path),
      onMade: async (made) => {
        await lockCgroup(journal, made, { stateDir, signal });
        await guardian.keepCgroup();
      },
      onHomes: (homes) => guardian.keepHomes(homes),
    }),
  );
  signal?.throwIfAborted();
  return await work({ target, pids: found?.pids ?? runningPids(pid), guardian });
}
