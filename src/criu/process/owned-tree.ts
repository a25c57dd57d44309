import { childrenOf } from '../../proc/children.js';
import { identify, type ProcessId } from '../../proc/identity.js';
import { readProcess, selfAndAncestors } from '../../proc/task.js';

/** The process, when its parent is that one; undefined when it is not, or there is no such process (any more). */
export function identifyChild(pid: number, parent: number): ProcessId | undefined {
  return readProcess(pid)?.ppid === parent ? identify(pid) : undefined;
}

/** Whether this process is in the tree of that one. */
export function hasUs(root: number): boolean {
  return selfAndAncestors(process.pid).some(({ pid }) => pid === root);
}

/**
 * Kills what is left of a tree whose restore did not end well. CRIU does that itself when it says no; when it was
 * killed, the tasks wait for it for ever and hold their pids, and when its client left late, they run.
 * Each task is stopped before its children are looked up, so that none is missed.
 */
export function killTree(root: ProcessId): void {
  if (identify(root.pid)?.startTime !== root.startTime) return;
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
