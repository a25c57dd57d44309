import { isFreezerError, processTree } from '../../cgroup/index.js';
import type { ProcessInfo } from '../../proc/task.js';

/** The processes of a tree as they are now, zombies left out; none when it has ended. */
export function runningTree(pid: number): ProcessInfo[] {
  try {
    return processTree(pid).filter(({ state }) => state !== 'Z' && state !== 'X');
  } catch (error) {
    if (isFreezerError(error, 'NO_SUCH_PROCESS')) return [];
    throw error;
  }
}

export function runningPids(pid: number): number[] {
  return runningTree(pid).map((process) => process.pid);
}
