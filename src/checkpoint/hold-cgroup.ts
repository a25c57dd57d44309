import { checkCgroup, openFreezer, type Freezer } from '../cgroup/index.js';
import { bad } from './base/check-option.js';
import { Guardian } from './guardian/guardian.js';
import { lockTarget } from './guardian/lock.js';
import type { HoldPlan } from './hold-target.js';

/** A cgroup with all that is in it, whatever that is. */
export interface WholeCgroup {
  /** Its directory. */
  cgroup: string;
  /** The root of the tree that it is known for, such as a container's. Locked, too. */
  pid?: number | undefined;
}

export interface HeldCgroup {
  freezer: Freezer;
  guardian: Guardian;
}

/**
 * Runs `work` while the cgroup is locked and guarded, and neither this process nor the guardian is in it.
 * @throws as `withHeldTarget`
 */
export async function withHeldCgroup<T>(
  { options: { cgroup, pid, signal }, settings: { stateDir, placeGuardianIn }, phases }: HoldPlan<WholeCgroup>,
  work: (held: HeldCgroup) => Promise<T>,
): Promise<T> {
  const freezer = await phases.run('resolve', () => {
    checkCgroup(cgroup);
    return openFreezer({ cgroup });
  });
  const place = { version: freezer.version, path: freezer.path };
  using journal = await phases.run('lock', () => lockTarget({ pid, cgroup: place, stateDir, signal }));
  await using guardian = await phases.run('guardian', () => Guardian.arm({ journal, placeGuardianIn, signal }));
  signal?.throwIfAborted();
  // It would be frozen with the rest, and thaw nothing.
  if (checkCgroup(cgroup).includes(guardian.pid))
    bad('placeGuardianIn', placeGuardianIn, `a cgroup outside of ${freezer.path}, which is to be frozen`);
  return await work({ freezer, guardian });
}
