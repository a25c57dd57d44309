import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** One task of /proc: a process, or a thread when read below /proc/PID/task. */
export interface ProcessInfo {
  pid: number;
  ppid: number;
  /** Ids of its process group and of its session. */
  group: number;
  session: number;
  name: string;
  /** The letter of /proc/PID/stat: R, S, D, T, t, Z, ... */
  state: string;
  isKernelThread: boolean;
  /** A zombie, or about to become one: it runs no more of its program and is in no cgroup's list of tasks. */
  isExiting: boolean;
  threadCount: number;
  /** In clock ticks since boot: with the pid it names a process for good. */
  startTime: bigint;
}

// Source: include/linux/sched.h, Linux v6.12.
const PF_EXITING = 0x0000_0004;
const PF_KTHREAD = 0x0020_0000;

/** `undefined` when there is no such task (any more). */
export function readProcess(pid: number): ProcessInfo | undefined {
  const text = readProc(`${pid}/stat`);
  return text === undefined ? undefined : parseStat(text);
}

/** Source: man 5 proc, /proc/pid/stat. The name may hold spaces, parentheses and line ends: the last `)` ends it. */
export function parseStat(text: string): ProcessInfo {
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  const fields = text.slice(close + 2).split(' ');
  const state = fields[0] ?? '';
  const flags = Number(fields[6]);
  return {
    pid: Number(text.slice(0, open)),
    name: text.slice(open + 1, close),
    state,
    ppid: Number(fields[1]),
    group: Number(fields[2]),
    session: Number(fields[3]),
    isKernelThread: (flags & PF_KTHREAD) !== 0,
    isExiting: (flags & PF_EXITING) !== 0 || state === 'Z' || state === 'X',
    threadCount: Number(fields[17]),
    startTime: BigInt(fields[19] ?? 0),
  };
}

/** There, and neither a zombie nor on its way out. */
export function isAlive(tid: number): boolean {
  return readProcess(tid)?.isExiting === false;
}

// signal(7): SIGKILL, and those whose default is a core dump: QUIT, ILL, TRAP, ABRT, BUS, FPE, SEGV, XCPU, XFSZ, SYS.
const SIGKILL = 1n << 8n;
const DUMPS_CORE = [3, 4, 5, 6, 7, 8, 11, 24, 25, 31].reduce((set, signal) => set | (1n << BigInt(signal - 1)), 0n);

/**
 * A signal that ends the process has been sent, though it has not run since and still looks alive. The kernel leaves SIGKILL
 * pending for every thread in place of a signal that ends a process without a core dump.
 * Source: kernel/signal.c, complete_signal, Linux v6.12.
 */
export function hasFatalSignal(pid: number): boolean {
  const status = readProc(`${pid}/status`) ?? '';
  const signals = (name: string): bigint =>
    BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1] ?? '0'}`);
  const pending = signals('SigPnd') | signals('ShdPnd');
  const withoutDefault = signals('SigBlk') | signals('SigIgn') | signals('SigCgt');
  return (pending & (SIGKILL | (DUMPS_CORE & ~withoutDefault))) !== 0n;
}

/** A file of /proc, or `undefined` when its task has gone or may not be read. */
export function readProc(path: string): string | undefined {
  try {
    return readFileSync(`/proc/${path}`, 'utf8');
  } catch {
    return undefined;
  }
}

/** The names in a directory of /proc; none when it is gone. */
export function listProc(path: string): string[] {
  try {
    return readdirSync(`/proc/${path}`);
  } catch {
    return [];
  }
}

/** Where a link of /proc leads; `undefined` when it is gone. */
export function readProcLink(path: string): string | undefined {
  try {
    return readlinkSync(`/proc/${path}`);
  } catch {
    return undefined;
  }
}

/** Thread ids of a process as it was when `info` was read. For a process with one thread nothing is read. */
export function threadIds(info: ProcessInfo): number[] {
  return info.threadCount === 1 ? [info.pid] : threadsOf(info.pid);
}

/** Thread ids of a process; empty when it is gone. */
export function threadsOf(pid: number): number[] {
  return listProc(`${pid}/task`).map(Number);
}

/**
 * The id of a task (`PID` or `PID/task/TID`) in its own pid namespace; `undefined` when it is gone.
 * Source: proc_pid_status(5), NSpid, Linux 4.1 and newer.
 */
export function innermostId(task: string): number | undefined {
  const ids = /^NSpid:\s*(.+)$/m
    .exec(readProc(`${task}/status`) ?? '')?.[1]
    ?.trim()
    .split(/\s+/);
  return ids === undefined ? undefined : Number(ids.at(-1));
}

/** The pid that a thread belongs to, or `undefined` when it is gone. */
export function leaderOf(tid: number): number | undefined {
  const line = /^Tgid:\s*(\d+)$/m.exec(readProc(`${tid}/status`) ?? '');
  // A task that is being released shows 0 for a moment.
  return line === null || line[1] === '0' ? undefined : Number(line[1]);
}

/** The process, its parent, its parent's parent, ... as far as /proc shows them. */
export function selfAndAncestors(pid: number): ProcessInfo[] {
  const chain: ProcessInfo[] = [];
  for (let info = readProcess(pid); info !== undefined; info = info.ppid === 0 ? undefined : readProcess(info.ppid))
    chain.push(info);
  return chain;
}
