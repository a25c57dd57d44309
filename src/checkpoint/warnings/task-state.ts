import { Cpusets } from '../../cgroup/index.js';
import { innermostId, readProc, threadsOf } from '../../proc/task.js';
import { pidsByInnermost } from '../base/pids.js';
import { descriptorStates, Networks, type DescriptorState } from './descriptor-state.js';
import type { RecordedWarning } from './recorded.js';

/**
 * What CRIU does not dump of a task and /proc shows, by its name in docs/what-comes-back.md: a restored task has what
 * the restoring process has, or the kernel's default.
 */
export interface TaskState {
  pid: number;
  /** Thread id: the pid's own where it is of the whole process. */
  tid: number;
  what:
    | 'CPU affinity'
    | 'coredump_filter'
    | 'timer slack'
    | 'personality'
    | 'autogroup nice value'
    | 'PR_SET_MEMORY_MERGE'
    | 'exit signal'
    | DescriptorState;
  /** As /proc writes it; of a descriptor's state its number. */
  value: string;
  /** Of `socket options` which: those that are not as on a new socket, and `multicast membership`. */
  options?: string[];
  /** Both ids in the task's own pid namespace, where they are others there. */
  inside?: { pid: number; tid: number };
}

/** Lost in any case, though /proc shows nothing of it after the restore. */
const NEVER_RESTORED: readonly string[] = [
  'timerfd at a CLOCK_REALTIME time',
  'unread UDP datagrams',
  'unread inotify events',
  'unread fanotify events',
  'unread packets',
];

/**
 * A task that has not asked for anything has these of its parent's, or the kernel's default; and what tells the rest.
 */
interface Usual {
  affinity: string | undefined;
  coredumpFilter: string | undefined;
  personality: string | undefined;
  cpusets: Cpusets;
  networks: Networks;
}

// Source: init_task in init/init_task.c, Linux v6.12: 50 microseconds.
const DEFAULT_TIMER_SLACK = '50000';

// Of a real-time task, which has none, and again none when its policy comes back; prctl(2) cannot set it. Source:
// __setscheduler_params in kernel/sched/syscalls.c, Linux v6.12.
const NO_TIMER_SLACK = '0';
// signal(7), x86 and arm64.
const SIGCHLD = '17';

export function usualState(): Usual {
  return {
    affinity: affinityOf('self'),
    coredumpFilter: value('self/coredump_filter'),
    personality: value('self/personality'),
    cpusets: new Cpusets(),
    networks: new Networks(),
  };
}

/** Of one process and its threads, what is not as usual; empty when it has gone. */
export async function unusualState(pid: number, usual: Usual): Promise<TaskState[]> {
  const found: TaskState[] = [];
  const note = (tid: number, what: TaskState['what'], now: string | undefined, expected: string | undefined): void => {
    if (now !== undefined && now !== expected) found.push({ pid, tid, what, value: now });
  };
  for (const tid of threadsOf(pid)) {
    const task = `${pid}/task/${tid}`;
    const mask = affinityOf(task);
    if (mask !== usual.affinity && !(usual.affinity !== undefined && hasAllOf(usual.cpusets.of(task), task)))
      note(tid, 'CPU affinity', mask, usual.affinity);
  }
  note(pid, 'coredump_filter', value(`${pid}/coredump_filter`), usual.coredumpFilter);
  note(pid, 'personality', value(`${pid}/personality`), usual.personality);
  const slack = value(`${pid}/timerslack_ns`);
  if (slack !== NO_TIMER_SLACK) note(pid, 'timer slack', slack, DEFAULT_TIMER_SLACK);
  note(pid, 'autogroup nice value', niceOfAutogroup(pid), '0');
  note(pid, 'PR_SET_MEMORY_MERGE', memoryMerge(pid), 'no');
  note(pid, 'exit signal', exitSignal(pid), SIGCHLD);
  found.push(...(await descriptorStates(pid, usual.networks)));
  if (found.length === 0) return found;
  const own = innermostId(String(pid)) ?? pid;
  return found.map((state) => ({ ...state, ...insideIds(state, own) }));
}

/** @param own The process's id there, which is the task's too but of a further thread. */
function insideIds({ pid, tid }: TaskState, own: number): Pick<TaskState, 'inside'> {
  const inside = { pid: own, tid: tid === pid ? own : (innermostId(`${pid}/task/${tid}`) ?? tid) };
  return inside.pid === pid && inside.tid === tid ? {} : { inside };
}

/**
 * Of what the checkpoint warned of, what the restored tasks do not have, with the ids that they have now. An archive
 * may come from anywhere: no other tasks are looked at.
 * @param root The root of the restored tree, as this process's pid namespace has it.
 */
export async function statesNotRestored(
  recorded: readonly RecordedWarning[],
  root: number,
): Promise<{ states: TaskState[]; more: number }> {
  const nothing: Usual = {
    affinity: undefined,
    coredumpFilter: undefined,
    personality: undefined,
    cpusets: new Cpusets(),
    networks: new Networks(),
  };
  const lost = recorded.filter(({ code }) => code === 'STATE_LOST').map(({ facts }) => facts);
  const states = lost.flatMap((facts) => (Array.isArray(facts['states']) ? facts['states'].filter(isTaskState) : []));
  const more = lost.reduce((sum, facts) => sum + (Number.isSafeInteger(facts['more']) ? Number(facts['more']) : 0), 0);
  if (states.length === 0) return { states, more };
  const pids = pidsByInnermost(root);
  const now = new Map<number, RestoredTask>();
  for (const inside of new Set(states.map(({ pid, inside }) => inside?.pid ?? pid))) {
    const pid = pids.get(inside);
    // Else it has ended already, or lives elsewhere.
    if (pid !== undefined) now.set(inside, { pid, tids: tidsByInnermost(pid), has: await unusualState(pid, nothing) });
  }
  const notRestored = states.flatMap((state) => {
    const { what, value: wanted, inside = state } = state;
    const task = now.get(inside.pid);
    const tid = task?.tids.get(inside.tid);
    if (task === undefined || tid === undefined) return [state];
    const has = task.has.find((one) => one.tid === tid && one.what === what && one.value === wanted);
    const options = state.options?.filter((option) => has?.options?.includes(option) !== true);
    const isThere = has !== undefined && (options ?? []).length === 0 && !NEVER_RESTORED.includes(what);
    return isThere ? [] : [{ ...state, pid: task.pid, tid, ...(options === undefined ? {} : { options }) }];
  });
  return { states: notRestored, more };
}

interface RestoredTask {
  pid: number;
  tids: Map<number, number>;
  has: readonly TaskState[];
}

function tidsByInnermost(pid: number): Map<number, number> {
  return new Map(threadsOf(pid).map((tid) => [innermostId(`${pid}/task/${tid}`) ?? tid, tid]));
}

function isTaskState(value: unknown): value is TaskState {
  if (typeof value !== 'object' || value === null) return false;
  const { pid, tid, what, value: text, inside, options } = value as Partial<Record<keyof TaskState, unknown>>;
  const areTexts =
    [what, text].every((one) => typeof one === 'string') &&
    (options === undefined || (Array.isArray(options) && options.every((one) => typeof one === 'string')));
  return areTexts && areIds({ pid, tid }) && (inside === undefined || areIds(inside));
}

function areIds(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { pid, tid } = value as Record<string, unknown>;
  return Number.isSafeInteger(pid) && Number.isSafeInteger(tid);
}

function affinityOf(task: string): string | undefined {
  return /^Cpus_allowed:\s*(\S+)$/m.exec(readProc(`${task}/status`) ?? '')?.[1];
}

/** A container's cgroup may allow it fewer CPUs than we have: it has them again as soon as it is in that cgroup. */
function hasAllOf(cpuset: string | undefined, task: string): boolean {
  const has = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readProc(`${task}/status`) ?? '')?.[1];
  return has !== undefined && has === cpuset;
}

/** Source: kernel/sched/autogroup.c, proc_sched_autogroup_show_task, Linux v6.12. Not every kernel has autogroups. */
function niceOfAutogroup(pid: number): string | undefined {
  return / nice (-?\d+)/.exec(readProc(`${pid}/autogroup`) ?? '')?.[1];
}

/** Source: fs/proc/base.c, proc_pid_ksm_stat, Linux v6.18. Older kernels do not say it. */
function memoryMerge(pid: number): string | undefined {
  return /^ksm_merge_any:\s*(\S+)$/m.exec(readProc(`${pid}/ksm_stat`) ?? '')?.[1];
}

/** The 38th field. Source: proc_pid_stat(5). The name, which may hold anything, ends with the last `)`. */
function exitSignal(pid: number): string | undefined {
  const stat = readProc(`${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[38 - 3];
}

/** Undefined for a task that has ended, or has no memory any more, of which the kernel says nothing. */
function value(path: string): string | undefined {
  const text = readProc(path)?.trim();
  return text === '' ? undefined : text;
}
