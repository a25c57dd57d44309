import { relative } from 'node:path';
import {
  isAlive,
  leaderOf,
  readProcess,
  selfAndAncestors,
  threadIds,
  threadsOf,
  type ProcessInfo,
} from '../proc/task.js';
import { requirePid } from './check-arguments.js';
import { FreezerError, type NamedProcess } from './freezer-error.js';
import { tasksFrom } from './hierarchy.js';
import { openCgroup, type CgroupLocation } from './locate.js';
import { cgroupNameOf } from './membership.js';
import { pidsFrom } from './place.js';
import { processTree } from './tree.js';

export interface CgroupMember {
  pid: number;
  /** Its cgroup, relative to the target's cgroup: '' when it is in that very one. */
  cgroup: string;
}

export interface CheckedTarget {
  /** The tree without its zombies, parents before children. */
  pids: number[];
  members: CgroupMember[];
}

export interface TargetToCheck {
  pid: number;
  /** Directory of its cgroup. */
  cgroup: string;
  /** What `processTree` found a moment ago, when the caller has looked already. Default: it is looked at now. */
  tree?: readonly ProcessInfo[];
  /** It is a container's cgroup, and strangers in it are commands that were sent into it: the error says so. */
  guests?: boolean;
}

/**
 * Refuses a target that freezing `cgroup` would not freeze whole, or would freeze more than. Nothing is
 * touched. A running tree can change after the check: only one made while frozen holds.
 * Synchronous: while frozen, nothing else has to wait for a turn of the event loop.
 * @throws FreezerError NO_SUCH_PROCESS, IS_KERNEL_THREAD, IS_ZOMBIE, TARGET_IS_SELF, PID_NOT_IN_CGROUP,
 *   CGROUP_HOLDS_CALLER, TARGET_SPREAD, CGROUP_HAS_STRANGERS, and the codes of openCgroup
 */
export function checkTarget(target: TargetToCheck): CheckedTarget {
  const { pid } = target;
  checkProcess(pid);
  const cgroup = openCgroup(target.cgroup);

  // In this order: a task that is born between the two reads is taken for a stranger at first, and cleared
  // by its ancestry; the other way round it would be missed.
  const tree = (target.tree ?? processTree(pid)).filter((process) => !process.isExiting);
  const tasks = tasksFrom(cgroup.path, cgroup.version);
  if (!tasks.has(pid)) {
    if (readProcess(pid) === undefined) throw new FreezerError('NO_SUCH_PROCESS', { pid });
    throw new FreezerError('PID_NOT_IN_CGROUP', { pid, path: cgroup.path, cgroup: cgroupNameOf(pid, cgroup.version) });
  }
  checkCaller(cgroup, tasks);
  checkOutside(pid, cgroup, tree, tasks);
  checkStrangers(target, cgroup, tree, tasks);

  const members = tree.flatMap((process) => {
    const directory = tasks.get(process.pid);
    return directory === undefined ? [] : [{ pid: process.pid, cgroup: relative(cgroup.path, directory) }];
  });
  return { pids: members.map((member) => member.pid), members };
}

/**
 * The processes of a cgroup and of those below it, whatever they are.
 * @throws FreezerError CGROUP_HOLDS_CALLER, and the codes of openCgroup
 */
export function checkCgroup(directory: string): number[] {
  const cgroup = openCgroup(directory);
  checkCaller(cgroup, tasksFrom(cgroup.path, cgroup.version));
  return pidsFrom(cgroup.path);
}

/**
 * Refuses what is no tree that could be frozen and dumped from here.
 * @throws FreezerError BAD_OPTION, NO_SUCH_PROCESS, IS_KERNEL_THREAD, IS_ZOMBIE, TARGET_IS_SELF
 */
export function checkProcess(pid: number): ProcessInfo {
  requirePid(pid);
  const info = readProcess(pid);
  // A thread's id has a /proc entry too, but it is no process.
  if (info === undefined || leaderOf(pid) !== pid) throw new FreezerError('NO_SUCH_PROCESS', { pid });
  if (info.isKernelThread) throw new FreezerError('IS_KERNEL_THREAD', { pid, processName: info.name });
  if (selfAndAncestors(process.pid).some((ancestor) => ancestor.pid === pid))
    throw new FreezerError('TARGET_IS_SELF', { pid, self: process.pid });
  // A leader that ended before its threads shows Z as well, yet its process lives.
  if (info.state === 'Z' && threadsOf(pid).length <= 1)
    throw new FreezerError('IS_ZOMBIE', { pid, processName: info.name });
  return info;
}

function checkCaller({ path, version }: CgroupLocation, tasks: ReadonlyMap<number, string>): void {
  const callers = selfAndAncestors(process.pid).filter(
    (ancestor) =>
      tasks.has(ancestor.pid) ||
      (ancestor.pid === process.pid && threadsOf(ancestor.pid).some((tid) => tasks.has(tid))),
  );
  if (callers.length > 0)
    throw new FreezerError('CGROUP_HOLDS_CALLER', {
      path,
      callers: callers.map((caller) => named(caller.pid, caller.name, version)),
    });
}

function checkOutside(
  pid: number,
  { path, version }: CgroupLocation,
  tree: readonly ProcessInfo[],
  tasks: ReadonlyMap<number, string>,
): void {
  const outside: NamedProcess[] = [];
  let again: Map<number, string> | undefined;
  for (const process of tree) {
    for (const tid of threadIds(process)) {
      if (tasks.has(tid) || !isAlive(tid)) continue;
      // It may have been born, or moved in, after the list was read.
      again ??= tasksFrom(path, version);
      if (!again.has(tid) && isAlive(tid)) outside.push(named(tid, process.name, version));
    }
  }
  if (outside.length > 0) throw new FreezerError('TARGET_SPREAD', { pid, path, outside });
}

function checkStrangers(
  { pid, guests }: TargetToCheck,
  { path, version }: CgroupLocation,
  tree: readonly ProcessInfo[],
  tasks: ReadonlyMap<number, string>,
): void {
  const known = new Set(tree.map((process) => process.pid));
  const strangers = new Map<number, NamedProcess>();
  for (const tid of tasks.keys()) {
    if (known.has(tid)) continue;
    const leader = leaderOf(tid);
    if (leader === undefined || known.has(leader) || strangers.has(leader)) continue;
    const chain = selfAndAncestors(leader);
    if (chain.some((ancestor) => ancestor.pid === pid)) known.add(leader);
    else if (isAlive(leader)) strangers.set(leader, named(leader, chain[0]?.name ?? '', version));
  }
  if (holdsForeigner(path, version, tasks)) strangers.set(0, { pid: 0, name: 'of another pid namespace', cgroup: '' });
  if (strangers.size > 0)
    throw new FreezerError('CGROUP_HAS_STRANGERS', {
      pid,
      path,
      strangers: [...strangers.values()],
      ...(guests === true ? { guests } : {}),
    });
}

/**
 * The kernel lists a task of a pid namespace that is not below ours as 0, and for a moment one that is being
 * released as well: the former stays.
 */
function holdsForeigner(path: string, version: CgroupLocation['version'], tasks: ReadonlyMap<number, string>): boolean {
  for (let look = 0, now = tasks; look < 3; look++, now = tasksFrom(path, version)) if (!now.has(0)) return false;
  return true;
}

function named(pid: number, name: string, version: CgroupLocation['version']): NamedProcess {
  return { pid, name, cgroup: cgroupNameOf(pid, version) };
}
