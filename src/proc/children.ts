import { readProc, threadIds, threadsOf, type ProcessInfo } from './task.js';

/**
 * The children of a process, by all its threads; none when it has gone.
 * Source: man 5 proc, /proc/pid/task/tid/children: only in kernels built with CONFIG_PROC_CHILDREN, which CRIU needs
 * too.
 */
export function childrenOf(parent: number | ProcessInfo): number[] {
  const pid = typeof parent === 'number' ? parent : parent.pid;
  const tids = typeof parent === 'number' ? threadsOf(parent) : threadIds(parent);
  return tids.flatMap((tid) => (readProc(`${pid}/task/${tid}/children`) ?? '').split(' ').filter(Boolean).map(Number));
}
