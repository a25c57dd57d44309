/** The cgroup that a tree is restored into. */
import { join } from 'node:path';
import { cgroupOf, hierarchyRoot, makeCgroup, missingCgroups, openFreezer, placeProcess } from '../../cgroup/index.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import type { Subject } from '../base/recorded-target.js';
import type { Guardian } from '../guardian/guardian.js';
import type { RestoreSettings } from '../options.js';

/**
 * The recorded cgroup on this machine, or the one asked for; undefined for the root, where nothing has to be
 * placed. A machine without the recorded hierarchy takes the name to the one it has.
 */
export function cgroupFor({ cgroup }: Subject, settings: RestoreSettings): string | undefined {
  if (settings.cgroup !== undefined) return settings.cgroup;
  if (cgroup.name === '/') return undefined;
  const root = hierarchyRoot(cgroup.version) ?? hierarchyRoot(cgroup.version === 1 ? 2 : 1);
  if (root === undefined) throw new CheckpointError('NO_CGROUP', { name: cgroup.name });
  return join(root, cgroup.name);
}

/**
 * Makes the cgroup where it is missing; a frozen one would freeze CRIU as soon as it is placed there.
 * @returns the outermost cgroup that was made
 * @throws CheckpointError CGROUP_FROZEN, GUARDIAN_LOST; FreezerError
 */
export async function prepareCgroup(cgroup: string, guardian: Guardian): Promise<string | undefined> {
  const [outermost] = missingCgroups(cgroup);
  if (outermost !== undefined) guardian.willMakeRestoreCgroup(outermost);
  const [made] = makeCgroup(cgroup);
  const freezer = openFreezer({ cgroup });
  const { frozen, selfFrozen } = freezer.state();
  if (frozen || selfFrozen) throw new CheckpointError('CGROUP_FROZEN', { cgroup });
  await guardian.knowRestoreCgroup(freezer);
  // Its images can say that it is frozen, and then CRIU freezes it.
  await guardian.openWindow(false);
  return made;
}

/**
 * Only what has just been restored is moved: a process of the images, which was born in the cgroup. The manifest could
 * name any process of this machine.
 */
export function placeMembers({ cgroup: { members } }: Subject, pids: ReadonlySet<number>, cgroup: string): void {
  const { version, path } = openFreezer({ cgroup });
  for (const member of members) {
    if (member.cgroup === '' || !pids.has(member.pid)) continue;
    if (cgroupOf(member.pid, version).path === path) placeProcess(member.pid, join(cgroup, member.cgroup));
  }
}
