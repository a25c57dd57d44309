import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readProc } from '../proc/task.js';
import { parseMountinfo, parseProcCgroup, pathBelowMount } from './mountinfo.js';

/** Source: Documentation/admin-guide/cgroup-v1/cpusets.rst, 1.5; cgroup-v2.rst, "Cpuset"; Linux v6.12. */
const FILES = { 1: 'cpuset.effective_cpus', 2: 'cpuset.cpus.effective' } as const;

/**
 * The CPUs that a task's cpuset gives it, as a list (`0-3,8`): what a task there has that asked for no others.
 * `undefined` where no cpuset can be seen.
 */
export function cpusetOf(task: string): string | undefined {
  const memberships = parseProcCgroup(readProc(`${task}/cgroup`) ?? '').filter(
    ({ version, controllers }) => version === 2 || controllers.includes('cpuset'),
  );
  const mounts = parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'));
  for (const { version, name } of memberships) {
    for (const mount of mounts) {
      if (mount.version !== version || (version === 1 && !mount.controllers.includes('cpuset'))) continue;
      const below = pathBelowMount(mount.root, name);
      if (below === undefined || below.unknown > 0) continue;
      // On v2 a cgroup without the controller has the CPUs of the nearest ancestor that has it.
      for (let depth = below.segments.length; depth >= 0; depth--) {
        const cpus = read(join(mount.mountPoint, ...below.segments.slice(0, depth), FILES[version]));
        if (cpus !== undefined) return cpus;
      }
    }
  }
  return undefined;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1').trim();
  } catch {
    return undefined; // it has no such controller, or has gone
  }
}
