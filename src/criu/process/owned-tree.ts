import { readdirSync, readFileSync } from 'node:fs';

/** A process that CRIU has made for us, told from a later one with the same pid by its start time. */
export interface OwnedRoot {
  pid: number;
  startTime: string;
}

/** Undefined when there is no such process (any more), or its parent is another. */
export function identify(pid: number, parent?: number): OwnedRoot | undefined {
  const stat = statOf(pid);
  return stat === undefined || (parent !== undefined && stat.parent !== parent)
    ? undefined
    : { pid, startTime: stat.startTime };
}

/** Whether this process is in the tree of that one. */
export function hasUs(root: number): boolean {
  for (let pid: number | undefined = process.pid; pid !== undefined && pid !== 0; pid = statOf(pid)?.parent)
    if (pid === root) return true;
  return false;
}

/**
 * Kills what is left of a tree whose restore did not end well. CRIU does that itself when it says no; when it was killed,
 * the tasks wait for it for ever and hold their pids, and when its client left late, they run.
 * Each task is stopped before its children are looked up, so that none is missed.
 */
export function killTree(root: OwnedRoot): void {
  if (statOf(root.pid)?.startTime !== root.startTime) return;
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
    return readdirSync(`/proc/${pid}/task`).flatMap((tid) =>
      readFileSync(`/proc/${pid}/task/${tid}/children`, 'latin1').split(' ').filter(Boolean).map(Number),
    );
  } catch {
    return [];
  }
}

/** proc(5), /proc/PID/stat, fields 4 and 22; the second field is in parentheses and may hold anything. */
function statOf(pid: number): { parent: number; startTime: string } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { parent: Number(fields[1]), startTime: fields[19] as string };
  } catch {
    return undefined;
  }
}
