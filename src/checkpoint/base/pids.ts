import { isFreezerError, processTree } from '../../cgroup/index.js';
import { innermostId, type ProcessInfo } from '../../proc/task.js';

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

/** The tree's pids as we see them, by those of its own pid namespace, which the images have. */
export function pidsByInnermost(root: number): Map<number, number> {
  return new Map(runningPids(root).map((pid) => [innermostId(String(pid)) ?? pid, pid]));
}
