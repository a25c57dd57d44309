import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readProc } from '../proc/task.js';
import { readCgroupMounts } from './locate.js';
import { parseProcCgroup, pathBelowMount, type CgroupMount } from './mountinfo.js';

/** Source: Documentation/admin-guide/cgroup-v1/cpusets.rst, 1.5; cgroup-v2.rst, "Cpuset"; Linux v6.12. */
const FILES = { 1: 'cpuset.effective_cpus', 2: 'cpuset.cpus.effective' } as const;

/** The CPUs that cpusets give their tasks. The mounts are read once, and each cgroup's files. */
export class Cpusets {
  #mounts: CgroupMount[] | undefined;
  readonly #known = new Map<string, string | undefined>();

  /**
   * Of a task's cpuset, as a list (`0-3,8`): what a task there has that asked for no others. `undefined` where no cpuset
   * can be seen.
   */
  of(task: string): string | undefined {
    const memberships = readProc(`${task}/cgroup`) ?? '';
    if (!this.#known.has(memberships)) this.#known.set(memberships, this.#find(memberships));
    return this.#known.get(memberships);
  }

  #find(text: string): string | undefined {
    const memberships = parseProcCgroup(text).filter(
      ({ version, controllers }) => version === 2 || controllers.includes('cpuset'),
    );
    this.#mounts ??= readCgroupMounts();
    for (const { version, name } of memberships) {
      for (const mount of this.#mounts) {
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
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1').trim();
  } catch {
    return undefined; // it has no such controller, or has gone
  }
}
