import { badOptionText, type BadOption } from '../bad-option.js';
import { StillframeError, type ErrorTexts, type FactsOf } from '../errors.js';

/** A task that the kernel had not frozen when the caller's patience ended. */
export interface UnfrozenTask {
  pid: number;
  tid: number;
  name: string;
  /** The letter of /proc/PID/stat: R, S, D, T, t, ... */
  state: string;
  /** The kernel function it sleeps in; '' when it runs or may not be read. */
  wchan: string;
  /** Kernel stack, innermost function first; empty when it may not be read. */
  stack: string[];
}

export interface NamedProcess {
  pid: number;
  name: string;
  /** Its cgroup, as /proc/PID/cgroup says. */
  cgroup: string;
}

/** What is known when each code comes. */
export interface FreezerFacts {
  BAD_OPTION: BadOption;
  CGROUP_NOT_FOUND: { path: string };
  NOT_A_CGROUP: { path: string };
  /** `mayAdopt`: it was to be checkpointed, for which there is `adopt`. */
  CGROUP_IS_ROOT: { path: string; pid?: number; mayAdopt?: boolean };
  CGROUP_NOT_VISIBLE: { pid: number; name: string };
  CGROUP_GONE: { path: string };
  CGROUP_DENIED: { path: string; action: 'read' | 'write' | 'make' | 'remove' };
  CGROUP_BUSY: { path: string; pids: number[]; timeoutMs: number };
  CONTROL_FILE_FAILED: { path: string; action: 'read' | 'write' | 'make' | 'remove'; value?: string };
  FREEZER_UNSUPPORTED: { path: string; version?: 1 | 2 };
  FREEZE_TIMEOUT: { path: string; timeoutMs: number; tasks: UnfrozenTask[]; after: AfterFailure };
  FREEZE_ABORTED: { path: string; tasks: UnfrozenTask[]; after: AfterFailure };
  THAW_TIMEOUT: { path: string; timeoutMs: number };
  THAW_BLOCKED_BY_ANCESTOR: { path: string; ancestor: string };
  NO_SUCH_PROCESS: { pid: number };
  IS_KERNEL_THREAD: { pid: number; processName: string };
  IS_ZOMBIE: { pid: number; processName: string };
  TARGET_IS_SELF: { pid: number; self: number };
  PID_NOT_IN_CGROUP: { pid: number; path: string; cgroup: string };
  TARGET_SPREAD: { pid: number; path: string; outside: NamedProcess[] };
  /** `guests`: the cgroup is a container's, which commands are sent into (exec, health checks, probes). */
  CGROUP_HAS_STRANGERS: { pid: number; path: string; strangers: NamedProcess[]; guests?: boolean };
  CGROUP_HOLDS_CALLER: { path: string; callers: NamedProcess[] };
  ADOPT_FAILED: { pid: number; path: string; reason: string };
  RELEASE_FAILED: { path: string; pids: number[] };
  PLACE_FAILED: { pid: number; path: string };
}

export type FreezerErrorCode = keyof FreezerFacts;

/**
 * How the cgroup was left when a freeze failed: `thawed` again; still frozen because it was self-frozen
 * before the call; `held-by-ancestor` when only an ancestor still freezes it; `not-thawed` because taking the wish back
 * failed as well (that error is in `cause`); `untouched` when nothing had been written yet.
 */
export type AfterFailure = 'thawed' | 'was-self-frozen' | 'held-by-ancestor' | 'not-thawed' | 'untouched';

/** Every error of the cgroup room. Match on `code`; `facts` has the paths, pids and tasks. */
export class FreezerError<C extends FreezerErrorCode = FreezerErrorCode> extends StillframeError<
  C,
  FactsOf<FreezerFacts, C>
> {
  override readonly name = 'FreezerError';
  constructor(code: C, facts: FreezerFacts[C] & { cause?: unknown }) {
    super(code, texts[code](facts), facts);
  }
}

/** True when `error` is a FreezerError with this code. */
export function isFreezerError<C extends FreezerErrorCode>(error: unknown, code: C): error is FreezerError<C> {
  return error instanceof FreezerError && error.code === code;
}

const texts: ErrorTexts<FreezerFacts> = {
  BAD_OPTION: badOptionText,
  CGROUP_NOT_FOUND: (f) => ({
    what: `no such cgroup: ${f.path}`,
    remedy: 'Give the directory of a cgroup on a mounted cgroup file system.',
  }),
  NOT_A_CGROUP: (f) => ({
    what: `not a cgroup directory: ${f.path}`,
    remedy: 'Give a directory on a mounted cgroup file system (see: grep cgroup /proc/self/mountinfo).',
  }),
  CGROUP_IS_ROOT: (f) => ({
    what:
      f.pid === undefined
        ? `the root cgroup cannot be frozen: ${f.path}`
        : `process ${f.pid} is in the root cgroup, which cannot be frozen`,
    remedy: f.mayAdopt === true ? ADOPT : 'Give a cgroup below it, or move the process into one first.',
  }),
  CGROUP_NOT_VISIBLE: (f) => ({
    what: `the cgroup ${f.name} of process ${f.pid} is not visible on any cgroup mount of this process`,
    remedy: 'Mount the cgroup hierarchy here, or run outside of this cgroup or mount namespace.',
  }),
  CGROUP_GONE: (f) => ({ what: `the cgroup was removed: ${f.path}`, remedy: '' }),
  CGROUP_DENIED: (f) => ({
    what: `not allowed to ${f.action} ${f.path}`,
    remedy: 'Run as root, or have the cgroup delegated; in a container mount the cgroup file system writable.',
  }),
  CGROUP_BUSY: (f) => ({
    what: `cgroup not removed after ${f.timeoutMs} ms: ${f.path} (${pidList(f.pids)})`,
    remedy: 'Move or end the processes in it first.',
  }),
  CONTROL_FILE_FAILED: (f) => ({
    what: `cannot ${f.action} ${f.path}${f.value === undefined ? '' : ` (value ${f.value})`}`,
    remedy: '',
  }),
  FREEZER_UNSUPPORTED: (f) => ({
    what: `the cgroup has no freezer: ${f.path}`,
    remedy: 'cgroup v2 has had cgroup.freeze since Linux 5.2; on v1 give a directory of the freezer hierarchy.',
  }),
  FREEZE_TIMEOUT: (f) => ({
    what: `cgroup not frozen after ${f.timeoutMs} ms: ${f.path} (${taskList(f.tasks)}); ${afterText[f.after]}`,
    remedy:
      'Raise `timeoutMs`, or look for a task in uninterruptible sleep: state D waits for a disk, a network file ' +
      'system or a driver.',
  }),
  FREEZE_ABORTED: (f) => ({
    what:
      `freeze aborted by the caller: ${f.path}${f.tasks.length === 0 ? '' : ` (${taskList(f.tasks)})`}; ` +
      `${afterText[f.after]}`,
    remedy: '',
  }),
  THAW_TIMEOUT: (f) => ({
    what: `cgroup not thawed after ${f.timeoutMs} ms: ${f.path}`,
    remedy: 'Check whether something else keeps freezing it.',
  }),
  THAW_BLOCKED_BY_ANCESTOR: (f) => ({
    what: `cgroup stays frozen because an ancestor is frozen: ${f.path} (ancestor ${f.ancestor})`,
    remedy: 'Its own freeze request was withdrawn. Thaw the ancestor, or find out who froze it.',
  }),
  NO_SUCH_PROCESS: (f) => ({
    what: `no such process: ${f.pid}`,
    remedy: 'It may have ended, or live in another pid namespace.',
  }),
  IS_KERNEL_THREAD: (f) => ({
    what: `process ${f.pid} (${f.processName}) is a kernel thread`,
    remedy: 'Give the pid of a program.',
  }),
  IS_ZOMBIE: (f) => ({
    what: `process ${f.pid} (${f.processName}) has ended and waits to be reaped`,
    remedy: 'Give the pid of a running program.',
  }),
  TARGET_IS_SELF: (f) => ({
    what:
      f.pid === f.self
        ? `process ${f.pid} is the calling process itself`
        : `process ${f.pid} is an ancestor of the calling process ${f.self}`,
    remedy: 'A process cannot freeze the tree that it belongs to. Run this from outside the tree.',
  }),
  PID_NOT_IN_CGROUP: (f) => ({
    what: `process ${f.pid} is not in the cgroup ${f.path}, but in ${f.cgroup}`,
    remedy: 'Leave `cgroup` out to have it found, or give the right one.',
  }),
  TARGET_SPREAD: (f) => ({
    what: `the tree of process ${f.pid} has tasks outside the cgroup ${f.path}: ${processList(f.outside)}`,
    remedy: `They would keep running while the rest is frozen. ${ADOPT}`,
  }),
  CGROUP_HAS_STRANGERS: (f) =>
    f.guests === true
      ? {
          what:
            `the container of process ${f.pid} also runs processes that were started in it from outside (exec, a ` +
            `health check, a probe): ${processList(f.strangers)}`,
          remedy: 'They did not end in time. Try again when they have, or end them.',
        }
      : {
          what:
            `the cgroup ${f.path} also holds processes that are not in the tree of ${f.pid}: ` +
            `${processList(f.strangers)}`,
          remedy: `They would be frozen too. ${ADOPT}`,
        },
  CGROUP_HOLDS_CALLER: (f) => ({
    what: `the cgroup ${f.path} holds the calling process or its ancestors: ${processList(f.callers)}`,
    remedy: `Stillframe would freeze itself. ${ADOPT}`,
  }),
  ADOPT_FAILED: (f) => ({
    what: `could not move the tree of process ${f.pid} into a cgroup of its own (${f.path}): ${f.reason}`,
    remedy: 'Everything that had been moved was moved back.',
  }),
  RELEASE_FAILED: (f) => ({
    what: `not moved back from ${f.path}: ${pidList(f.pids)}`,
    remedy: 'Call release() again, or move them by writing their pids to cgroup.procs.',
  }),
  PLACE_FAILED: (f) => ({ what: `process ${f.pid} was not moved into ${f.path}`, remedy: '' }),
};

/** For a checkpoint and for `whileFrozen`, which alone have targets. */
const ADOPT = 'Move the tree into a cgroup of its own meanwhile: `adopt: true`.';

const afterText: Record<AfterFailure, string> = {
  thawed: 'thawed again',
  'was-self-frozen': 'left self-frozen, as it was before',
  'held-by-ancestor': 'its freeze request was withdrawn, but an ancestor is frozen',
  'not-thawed': 'and thawing it failed: IT MAY STILL BE FROZEN',
  untouched: 'nothing was changed',
};

const LISTED = 10;

function list<T>(items: readonly T[], text: (item: T) => string): string {
  const rest = items.length - LISTED;
  return items.slice(0, LISTED).map(text).join(', ') + (rest > 0 ? `, and ${rest} more` : '');
}

function pidList(pids: readonly number[]): string {
  return pids.length === 0 ? 'no pid is visible' : `pids ${list(pids, String)}`;
}

function processList(processes: readonly NamedProcess[]): string {
  return list(processes, (p) => `${p.pid} (${p.name}) in ${p.cgroup}`);
}

function taskList(tasks: readonly UnfrozenTask[]): string {
  if (tasks.length === 0) return 'no task could be named';
  return list(
    tasks,
    (t) =>
      `${t.pid === t.tid ? `pid ${t.pid}` : `pid ${t.pid} tid ${t.tid}`} ${t.name} state ` +
      `${t.state}${t.wchan === '' ? '' : ` in ${t.wchan}`}`,
  );
}
