import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { isFreezerError } from './freezer-error.js';
import { controlError, readControl } from './control-file.js';
import type { CgroupVersion } from './mountinfo.js';

/** Lists every task, threads one by one; on v2 it may be read in threaded cgroups too, where cgroup.procs may not. */
export const TASKS_FILE: Record<CgroupVersion, string> = { 1: 'tasks', 2: 'cgroup.threads' };
export const PROCS_FILE = 'cgroup.procs';

/** The cgroup's directory and those of all cgroups below it, parents first; empty when it is gone. */
export function cgroupsFrom(path: string): string[] {
  const found = [path];
  for (let i = 0; i < found.length; i++) {
    const directory = found[i] as string;
    try {
      for (const entry of readdirSync(directory, { withFileTypes: true }))
        if (entry.isDirectory()) found.push(join(directory, entry.name));
    } catch (cause) {
      const error = controlError(cause, join(directory, PROCS_FILE), 'read');
      if (!isFreezerError(error, 'CGROUP_GONE')) throw error;
      found.splice(i--, 1);
    }
  }
  return found;
}

/** Every task in the cgroup and below it: thread id -> its cgroup's directory. Zombies are not among them. */
export function tasksFrom(path: string, version: CgroupVersion): Map<number, string> {
  const tasks = new Map<number, string>();
  for (const directory of cgroupsFrom(path)) {
    for (const tid of readIds(join(directory, TASKS_FILE[version]))) tasks.set(tid, directory);
  }
  return tasks;
}

/**
 * The ids that a cgroup file lists; none when the cgroup is gone. An id of 0 is a task of another pid namespace, or one
 * that is being released.
 */
export function readIds(path: string): number[] {
  try {
    return readControl(path)
      .split('\n')
      .filter((line) => line !== '')
      .map(Number);
  } catch (error) {
    if (isFreezerError(error, 'CGROUP_GONE')) return [];
    throw error;
  }
}
