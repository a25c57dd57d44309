import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { cpusetOf } from '../../cgroup/index.js';
import { readProc, threadsOf } from '../../proc/task.js';
import type { RecordedWarning } from './recorded.js';

/**
 * What CRIU does not dump of a task and /proc shows, by its name in docs/what-comes-back.md: a restored task has what
 * the restoring process has, or the kernel's default.
 */
export interface TaskState {
  pid: number;
  /** Thread id: the pid's own where it is of the whole process. */
  tid: number;
  what: 'CPU affinity' | 'coredump_filter' | 'timer slack' | 'personality' | 'EFD_SEMAPHORE';
  /** As /proc writes it; of EFD_SEMAPHORE the descriptor. */
  value: string;
}

/** A task that has not asked for anything has these of its parent's, or the kernel's default. */
interface Usual {
  affinity: string | undefined;
  coredumpFilter: string | undefined;
  personality: string | undefined;
}

// Source: init_task in init/init_task.c, Linux v6.12: 50 microseconds.
const DEFAULT_TIMER_SLACK = '50000';

export function usualState(): Usual {
  return {
    affinity: affinityOf('self'),
    coredumpFilter: value('self/coredump_filter'),
    personality: value('self/personality'),
  };
}

/** Of one process and its threads, what is not as usual; empty when it has gone. */
export function unusualState(pid: number, usual: Usual): TaskState[] {
  const found: TaskState[] = [];
  const note = (tid: number, what: TaskState['what'], now: string | undefined, expected: string | undefined): void => {
    if (now !== undefined && now !== expected) found.push({ pid, tid, what, value: now });
  };
  for (const tid of threadsOf(pid)) {
    const task = `${pid}/task/${tid}`;
    const mask = affinityOf(task);
    if (mask !== usual.affinity && !(usual.affinity !== undefined && hasAllOfItsCpuset(task)))
      note(tid, 'CPU affinity', mask, usual.affinity);
  }
  note(pid, 'coredump_filter', value(`${pid}/coredump_filter`), usual.coredumpFilter);
  note(pid, 'personality', value(`${pid}/personality`), usual.personality);
  note(pid, 'timer slack', value(`${pid}/timerslack_ns`), DEFAULT_TIMER_SLACK);
  for (const fd of semaphores(pid)) found.push({ pid, tid: pid, what: 'EFD_SEMAPHORE', value: fd });
  return found;
}

/** Of what the checkpoint warned of, what the restored tasks do not have. An archive may come from anywhere. */
export function statesNotRestored(recorded: readonly RecordedWarning[]): TaskState[] {
  const nothing: Usual = { affinity: undefined, coredumpFilter: undefined, personality: undefined };
  const now = new Map<number, TaskState[]>();
  return recorded
    .filter(({ code }) => code === 'STATE_LOST')
    .flatMap(({ facts }) => (Array.isArray(facts['states']) ? facts['states'].filter(isTaskState) : []))
    .filter(({ pid, tid, what, value: wanted }) => {
      const own = now.get(pid) ?? unusualState(pid, nothing);
      now.set(pid, own);
      return !own.some((has) => has.tid === tid && has.what === what && has.value === wanted);
    });
}

function isTaskState(value: unknown): value is TaskState {
  if (typeof value !== 'object' || value === null) return false;
  const { pid, tid, what, value: text } = value as Partial<Record<keyof TaskState, unknown>>;
  return Number.isSafeInteger(pid) && Number.isSafeInteger(tid) && typeof what === 'string' && typeof text === 'string';
}

function affinityOf(task: string): string | undefined {
  return /^Cpus_allowed:\s*(\S+)$/m.exec(readProc(`${task}/status`) ?? '')?.[1];
}

/** A container's cgroup may allow it fewer CPUs than we have: it has them again as soon as it is in that cgroup. */
function hasAllOfItsCpuset(task: string): boolean {
  const has = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readProc(`${task}/status`) ?? '')?.[1];
  return has !== undefined && has === cpusetOf(task);
}

/** Undefined for a task that has ended, or has no memory any more, of which the kernel says nothing. */
function value(path: string): string | undefined {
  const text = readProc(path)?.trim();
  return text === '' ? undefined : text;
}

/** Descriptors of eventfds that count as semaphores. Source: fs/eventfd.c, eventfd_show_fdinfo, Linux v6.6. */
function semaphores(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).filter(
      (fd) =>
        readlinkSync(`/proc/${pid}/fd/${fd}`) === 'anon_inode:[eventfd]' &&
        /^eventfd-semaphore:\s*1$/m.test(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1')),
    );
  } catch {
    return []; // it ended, or closed one meanwhile
  }
}
