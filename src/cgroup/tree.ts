import { readdirSync } from 'node:fs';
import { childrenOf as readChildren } from '../proc/children.js';
import { readProc, readProcess, type ProcessInfo } from '../proc/task.js';
import { requirePid } from './check-arguments.js';
import { FreezerError } from './freezer-error.js';

/**
 * The process and all its descendants, parents before children. Processes that end meanwhile are left
 * out; ones that are forked meanwhile may be missing: who must not miss any looks again until nothing is new.
 * @throws FreezerError BAD_OPTION, NO_SUCH_PROCESS
 */
export function processTree(pid: number): ProcessInfo[] {
  requirePid(pid);
  const root = readProcess(pid);
  if (root === undefined) throw new FreezerError('NO_SUCH_PROCESS', { pid });
  const childrenOf = readProc(`${pid}/task/${pid}/children`) === undefined ? scanParents() : readChildren;
  const tree = [root];
  const seen = new Set([pid]);
  for (let i = 0; i < tree.length; i++) {
    for (const child of childrenOf(tree[i] as ProcessInfo)) {
      if (seen.has(child)) continue;
      seen.add(child);
      const info = readProcess(child);
      if (info !== undefined) tree.push(info);
    }
  }
  return tree;
}

/** The other way, for kernels without the `children` file or a zombie leader: everybody's parent. */
function scanParents(): (parent: ProcessInfo) => number[] {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync('/proc')) {
    const info = /^\d+$/.test(entry) ? readProcess(Number(entry)) : undefined;
    if (info === undefined) continue;
    const siblings = children.get(info.ppid);
    if (siblings === undefined) children.set(info.ppid, [info.pid]);
    else siblings.push(info.pid);
  }
  return (parent) => children.get(parent.pid) ?? [];
}
