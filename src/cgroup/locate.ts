import { readdirSync, readFileSync, realpathSync, statfsSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { requireOptions, requirePath, requirePid, requireVersion } from './check-arguments.js';
import { FreezerError } from './freezer-error.js';
import { controlError } from './control-file.js';
import { readIds, TASKS_FILE } from './hierarchy.js';
import { parseMountinfo, parseProcCgroup, pathBelowMount, type CgroupMount, type CgroupVersion } from './mountinfo.js';
import { readProc, readProcess } from '../proc/task.js';

/** A cgroup that can be frozen, or that holds what is to be frozen. */
export interface CgroupLocation {
  version: CgroupVersion;
  /** Absolute directory on a cgroup mount that this process sees. */
  path: string;
  /** Its path within the hierarchy, as this process's cgroup namespace names it. */
  name: string;
}

// Source: include/uapi/linux/magic.h, Linux v6.12.
const CGROUP_SUPER_MAGIC = 0x27e0eb;
const CGROUP2_SUPER_MAGIC = 0x63677270;

/**
 * The cgroup that freezes `pid`. Where both hierarchies have a freezer, the one in which the process is not
 * in the root cgroup; where it is in neither root, v1, because the runtimes that use v1 keep the v2 side
 * for systemd's bookkeeping, where the same cgroup may hold more than the container.
 * @throws FreezerError BAD_OPTION, NO_SUCH_PROCESS, IS_ZOMBIE, CGROUP_IS_ROOT, CGROUP_NOT_VISIBLE
 */
export function locateCgroup(pid: number, options: { version?: CgroupVersion | undefined } = {}): CgroupLocation {
  requirePid(pid);
  requireOptions<{ version?: unknown }>(options, { version: true });
  if (options.version !== undefined) requireVersion(options.version);
  const memberships = freezerMemberships(pid).filter(
    (m) => options.version === undefined || m.version === options.version,
  );
  const mounts = readCgroupMounts();
  let invisible: unknown;
  for (const { version, name } of memberships.sort((a, b) => a.version - b.version)) {
    try {
      const path = visiblePath(pid, version, name, mounts);
      if (!isHierarchyRoot(version, new Set(readdirSync(path)))) return { version, name, path };
    } catch (error) {
      if (!(error instanceof FreezerError)) throw error;
      // Where nothing is mounted, `/` is as good as surely the root.
      if (name !== '/' || error.code !== 'CGROUP_NOT_VISIBLE') invisible ??= error;
    }
  }
  throw invisible ?? new FreezerError('CGROUP_IS_ROOT', { path: '/', pid });
}

/**
 * The cgroup of `pid` in one hierarchy, the root included: where it is, not whether that can be frozen.
 * @throws FreezerError NO_SUCH_PROCESS, IS_ZOMBIE, CGROUP_NOT_VISIBLE, FREEZER_UNSUPPORTED
 */
export function cgroupOf(pid: number, version: CgroupVersion): CgroupLocation {
  const membership = freezerMemberships(pid).find((m) => m.version === version);
  if (membership === undefined) throw new FreezerError('FREEZER_UNSUPPORTED', { path: `/proc/${pid}/cgroup`, version });
  return { version, name: membership.name, path: visiblePath(pid, version, membership.name, readCgroupMounts()) };
}

/**
 * Takes a directory for a cgroup, once it is known to be one that can be frozen.
 * @throws FreezerError BAD_OPTION, CGROUP_NOT_FOUND, NOT_A_CGROUP, CGROUP_IS_ROOT, FREEZER_UNSUPPORTED, CGROUP_DENIED
 */
export function openCgroup(directory: string): CgroupLocation {
  requirePath('cgroup', directory);
  const path = realPath(directory);
  const type = statfsSync(path).type;
  if ((type !== CGROUP2_SUPER_MAGIC && type !== CGROUP_SUPER_MAGIC) || !statSync(path).isDirectory())
    throw new FreezerError('NOT_A_CGROUP', { path });
  const version = type === CGROUP2_SUPER_MAGIC ? 2 : 1;
  const has = new Set(readdirSync(path));
  if (isHierarchyRoot(version, has)) throw new FreezerError('CGROUP_IS_ROOT', { path });
  if (!has.has(version === 2 ? 'cgroup.freeze' : 'freezer.state'))
    throw new FreezerError('FREEZER_UNSUPPORTED', { path, version });
  return { version, path, name: nameOnMount(path, version) };
}

/** The versions of the freezer that this machine offers, from the mounts that this process sees. */
export function freezerVersions(): CgroupVersion[] {
  const mounts = readCgroupMounts();
  const versions: CgroupVersion[] = [];
  if (mounts.some((m) => m.version === 1 && m.controllers.includes('freezer'))) versions.push(1);
  if (mounts.some((m) => m.version === 2)) versions.push(2);
  return versions;
}

/**
 * Mount point from which the root of the hierarchy, as this process sees it, can be reached.
 * @throws FreezerError BAD_OPTION
 */
export function hierarchyRoot(version: CgroupVersion): string | undefined {
  requireVersion(version);
  return readCgroupMounts().find((m) => holdsFreezer(m, version) && m.root === '/')?.mountPoint;
}

/**
 * Only a hierarchy's true root lacks cgroup.events (v2) or has release_agent (v1); the root of a cgroup
 * namespace (`/` in /proc/PID/cgroup) or of a bind mount is an ordinary cgroup and can be frozen.
 */
function isHierarchyRoot(version: CgroupVersion, files: ReadonlySet<string>): boolean {
  return version === 2 ? !files.has('cgroup.events') : files.has('release_agent') || files.has('cgroup.sane_behavior');
}

function freezerMemberships(pid: number): { version: CgroupVersion; name: string }[] {
  const text = readProc(`${pid}/cgroup`);
  if (text === undefined) throw new FreezerError('NO_SUCH_PROCESS', { pid });
  return parseProcCgroup(text).filter((m) => m.version === 2 || m.controllers.includes('freezer'));
}

/**
 * Shortest mount point first: a restoring CRIU mounts every hierarchy for a moment below its work directory, and
 * such a mount, seen first, is gone when its path is used.
 */
export function readCgroupMounts(): CgroupMount[] {
  const mounts = parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'));
  return mounts.sort((a, b) => a.mountPoint.length - b.mountPoint.length);
}

function holdsFreezer(mount: CgroupMount, version: CgroupVersion): boolean {
  return mount.version === version && (version === 2 || mount.controllers.includes('freezer'));
}

/** Each candidate is believed only when its own list of tasks holds the pid: mounts can hide one another. */
function visiblePath(pid: number, version: CgroupVersion, name: string, mounts: readonly CgroupMount[]): string {
  for (const mount of mounts) {
    if (!holdsFreezer(mount, version)) continue;
    const below = pathBelowMount(mount.root, name);
    if (below === undefined) continue;
    for (const start of directoriesAtDepth(mount.mountPoint, below.unknown)) {
      const path = join(start, ...below.segments);
      if (holds(path, version, pid)) return path;
    }
  }
  const info = readProcess(pid);
  if (info === undefined) throw new FreezerError('NO_SUCH_PROCESS', { pid });
  // It has left its cgroup, although on v2 it still names it.
  if (info.isExiting) throw new FreezerError('IS_ZOMBIE', { pid, processName: info.name });
  throw new FreezerError('CGROUP_NOT_VISIBLE', { pid, name });
}

function holds(path: string, version: CgroupVersion, pid: number): boolean {
  try {
    return readIds(join(path, TASKS_FILE[version])).includes(pid);
  } catch {
    return false;
  }
}

function directoriesAtDepth(path: string, depth: number): string[] {
  if (depth === 0) return [path];
  const names = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return names.flatMap((entry) => directoriesAtDepth(join(path, entry.name), depth - 1));
}

function nameOnMount(path: string, version: CgroupVersion): string {
  const mounts = readCgroupMounts().filter(
    (m) => m.version === version && (m.mountPoint === path || path.startsWith(`${m.mountPoint}/`)),
  );
  const nearest = mounts.sort((a, b) => b.mountPoint.length - a.mountPoint.length)[0];
  return nearest === undefined ? path : join(nearest.root, relative(nearest.mountPoint, path));
}

function realPath(directory: string): string {
  try {
    return realpathSync(directory);
  } catch (cause) {
    const error = controlError(cause, join(directory, '.'), 'read');
    throw error.code === 'CGROUP_GONE' || dirname(directory) === ''
      ? new FreezerError('CGROUP_NOT_FOUND', { path: directory, cause })
      : error;
  }
}
