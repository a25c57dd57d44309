/** The cgroups of a copy: one that is its own, with its pid 1 in it, and in that one the tree's, which can be frozen. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { cgroupOf, hierarchyRoot, openFreezer, placeProcess } from '../../cgroup/index.js';
import type { Subject } from '../base/recorded-target.js';
import { cgroupFor } from '../restore/restore-cgroup.js';
import type { RestoreSettings } from '../options.js';

const PREFIX = 'stillframe-copy-';

export interface CopyCgroups {
  /** Of the copy: what is made for it, and goes with it. */
  own: string;
  /** Of its tree. */
  tree: string;
}

/**
 * Below the cgroup that the tree was in, or the one that the caller names, so that its limits hold for the copy too;
 * where that is gone, below what is left of its path. A copy's copies are beside it.
 */
export function copyCgroups(subject: Subject, settings: RestoreSettings): CopyCgroups {
  const home = cgroupFor(subject, settings) ?? hierarchyRoot(subject.cgroup.version) ?? hierarchyRoot(2) ?? '/';
  let parent = outsideCopy(home);
  while (!existsSync(parent)) parent = dirname(parent);
  const own = join(parent, `${PREFIX}${randomBytes(6).toString('hex')}`);
  return { own, tree: join(own, 'tree') };
}

/** The cgroup that a copy was made in, by the name or path of its own; any other is what it is. */
export function outsideCopy(cgroup: string): string {
  const parts = cgroup.split('/');
  const copy = parts.findIndex((part) => part.startsWith(PREFIX));
  return copy < 0 ? cgroup : parts.slice(0, copy).join('/') || '/';
}

/**
 * Only what has just been restored is moved, as `placeMembers` of a restore does it; its pids are others here.
 * @param pids Those of the copy, by what its images call them.
 */
export function placeCopyMembers(
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
