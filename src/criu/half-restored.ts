import { readdirSync, readFileSync } from 'node:fs';

/** A process that CRIU is restoring, told from a later one with the same pid by its start time. */
export interface RestoredRoot {
  pid: number;
  startTime: string;
}

/** Undefined when there is no such process (any more). */
export function identify(pid: number): RestoredRoot | undefined {
  const startTime = startTimeOf(pid);
  return startTime === undefined ? undefined : { pid, startTime };
}

/**
 * Kills what is left of a tree whose restore did not end well. CRIU does that itself when it says no; when it was killed,
 * the tasks wait for it for ever and hold their pids, and when its client left late, they run.
 * Each task is stopped before its children are looked up, so that none is missed.
 */
export function killTree(root: RestoredRoot): void {
  if (startTimeOf(root.pid) !== root.startTime) return;
  const tree = [root.pid];
  for (const pid of tree) {
    if (signal(pid, 'SIGSTOP')) tree.push(...childrenOf(pid));
  }
  for (const pid of tree) signal(pid, 'SIGKILL');
}

function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false; // it has ended by itself
  }
}

/** Needs CONFIG_PROC_CHILDREN, as CRIU does. */
function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((tid) => readFileSync(`/proc/${pid}/task/${tid}/children`, 'latin1').split(' ').filter(Boolean).map(Number));
  } catch {
    return [];
  }
}

/** proc(5), /proc/PID/stat, field 22; the second field is in parentheses and may hold anything. */
function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
