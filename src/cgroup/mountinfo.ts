/** The kernel's own tables of cgroups, as text: no file is touched here. */
import { mountLines } from '../proc/mountinfo.js';
import { unescapeOctal } from '../proc/octal.js';

export type CgroupVersion = 1 | 2;

/** A mounted cgroup hierarchy, or a part of one. */
export interface CgroupMount {
  version: CgroupVersion;
  /** The cgroup that is mounted, seen from our cgroup namespace: `/`, `/job`, `/..` when it is above ours. */
  root: string;
  mountPoint: string;
  /** v1: the controllers of the hierarchy, as in the super options. Empty on v2. */
  controllers: string[];
}

/** One line of /proc/PID/cgroup. */
export interface CgroupMembership {
  version: CgroupVersion;
  /** v1: the hierarchy's controllers, `name=...` for a named one. Empty on v2. */
  controllers: string[];
  /** The cgroup's path in its hierarchy, seen from our cgroup namespace. */
  name: string;
}

/**
 * The cgroup mounts of a /proc/PID/mountinfo, the newest first: a later mount hides an earlier one at the same place.
 */
export function parseMountinfo(text: string): CgroupMount[] {
  const mounts: CgroupMount[] = [];
  for (const { root, mountPoint, fsType, superOptions } of mountLines(text)) {
    if (fsType !== 'cgroup' && fsType !== 'cgroup2') continue;
    mounts.unshift({
      version: fsType === 'cgroup2' ? 2 : 1,
      root: unescapeOctal(root),
      mountPoint: unescapeOctal(mountPoint),
      controllers:
        fsType === 'cgroup'
          ? superOptions.split(',').filter((option) => option !== 'rw' && option !== 'ro' && option !== '')
          : [],
    });
  }
  return mounts;
}

/** Source: man 7 cgroups, "/proc files". A cgroup that was removed under a zombie carries " (deleted)". */
export function parseProcCgroup(text: string): CgroupMembership[] {
  const memberships: CgroupMembership[] = [];
  for (const line of text.split('\n')) {
    const [id, rest] = splitOnce(line, ':');
    if (rest === undefined) continue;
    const [controllers, name] = splitOnce(rest, ':');
    if (name === undefined) continue;
    const version = id === '0' && controllers === '' ? 2 : 1;
    memberships.push({ version, controllers: controllers.split(',').filter((c) => c !== ''), name });
  }
  return memberships;
}

/**
 * Where a cgroup lies below a mount: the names to walk from the mount point. `unknown` directories come
 * first whose names this namespace does not show (the mount reaches above our namespace's root, the cgroup's path
 * starts at it). `undefined` when the mount does not contain the cgroup.
 */
export function pathBelowMount(mountRoot: string, name: string): { unknown: number; segments: string[] } | undefined {
  const root = segmentsOf(mountRoot);
  const segments = segmentsOf(name);
  const rootUps = countUps(root);
  const ups = countUps(segments);
  if (rootUps > ups) {
    // `/..` mounted, `/job` wanted: it is <our namespace's root>/job, and only the kernel knows that root's name.
    return rootUps === root.length ? { unknown: rootUps - ups, segments: segments.slice(ups) } : undefined;
  }
  const inside = root.every((segment, i) => segments[i] === segment);
  return inside && rootUps === ups ? { unknown: 0, segments: segments.slice(root.length) } : undefined;
}

function segmentsOf(path: string): string[] {
  return path.split('/').filter((segment) => segment !== '');
}

function countUps(segments: readonly string[]): number {
  const first = segments.findIndex((segment) => segment !== '..');
  return first === -1 ? segments.length : first;
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at === -1 ? [text, undefined] : [text.slice(0, at), text.slice(at + separator.length)];
}
