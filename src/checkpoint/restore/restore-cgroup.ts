/** The cgroup that a tree is restored into. */
import { join } from 'node:path';
import {
  cgroupOf,
  hierarchyRoot,
  makeCgroup,
  missingCgroups,
  openFreezer,
  placeProcess,
  removeCgroup,
} from '../../cgroup/index.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import type { Subject } from '../base/recorded-target.js';
import type { Guardian } from '../guardian/guardian.js';
import type { RestoreSettings } from '../options.js';
import type { Undo } from './undo.js';

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
 * @param undo Told how what was made is removed again.
 * @returns the outermost cgroup that was made
 * @throws CheckpointError CGROUP_FROZEN, GUARDIAN_LOST; FreezerError
 */
export async function prepareCgroup(cgroup: string, guardian: Guardian, undo: Undo): Promise<string | undefined> {
  const [outermost] = missingCgroups(cgroup);
  if (outermost !== undefined) guardian.willMakeRestoreCgroup(outermost);
  const [made] = makeCgroup(cgroup);
  if (made !== undefined) undo.push(() => removeCgroup(made));
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
 * @param pids Those of the images, and what this process knows each by.
 */
export function placeMembers(
  { cgroup: { members } }: Subject,
  pids: ReadonlyMap<number, number>,
  cgroup: string,
): void {
  const { version, path } = openFreezer({ cgroup });
  for (const member of members) {
    const pid = pids.get(member.pid);
    if (member.cgroup === '' || pid === undefined) continue;
    if (cgroupOf(pid, version).path === path) placeProcess(pid, join(cgroup, member.cgroup));
  }
}
