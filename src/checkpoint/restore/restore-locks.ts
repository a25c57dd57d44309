import { getSystemErrorName } from 'node:util';
import type { DumpedLock } from '../../criu/index.js';
import { native } from '../../native.js';
import { readProc, readProcLink } from '../../proc/task.js';
import { pidsByInnermost } from '../base/pids.js';

/** A POSIX record lock that a restored process should hold and does not, or will not. */
export interface LostLock {
  pid: number;
  fd: number;
  /** The file, as the process has it open; undefined where that could not be read. */
  path: string | undefined;
  type: 'read' | 'write';
  /** The range, in bytes. A length of 0 reaches to the end, wherever that is. */
  start: number;
  length: number;
  /**
   * Why it could not be set again: an errno's name, such as EAGAIN for one that another process holds; `mapped` for one
   * that a container runtime's restore loses because the file is mapped too.
   */
  reason: string;
}

/**
 * Sets the POSIX record locks again that CRIU has lost, before the tree runs. A process loses all its locks on a file
 * when it closes any descriptor of it (fcntl(2)). CRIU sets the locks first and then closes the descriptor by which it
 * has mapped the file, so that every lock on a file that is mapped too is gone: criu/cr-restore.c,
 * restore_one_alive_task, and criu/pie/restorer.c, restore_mapping, CRIU v4.2.
 *
 * To be called while all tasks wait in CRIU's code (`post-restore`): none has run, and CRIU does not trace them yet.
 * @param root The root of the restored tree, as this process's pid namespace has it.
 * @returns those that could not be set
 */
export async function restoreLocks(locks: readonly DumpedLock[], root: number): Promise<LostLock[]> {
  const held = new Map<number, DumpedLock[]>();
  for (const lock of locks) {
    if (lock.kind === 'posix') held.set(lock.pid, [...(held.get(lock.pid) ?? []), lock]);
  }
  if (held.size === 0) return [];
  const pids = pidsByInnermost(root);
  const lost: LostLock[] = [];
  for (const [dumpedPid, wanted] of held) {
    const pid = pids.get(dumpedPid) ?? dumpedPid;
    const missing = wanted.filter((lock) => !isHeld(pid, lock));
    const reasons = await setLocks(pid, missing);
    missing.forEach((lock, i) => {
      if (!isHeld(pid, lock)) lost.push(lostLock(pid, lock, reasons[i]));
    });
  }
  return lost;
}

/** @returns for each why it was refused; undefined for one that was set */
async function setLocks(pid: number, locks: readonly DumpedLock[]): Promise<(string | undefined)[]> {
  if (locks.length === 0) return [];
  const numbers = BigInt64Array.from(
    locks.flatMap(({ fd, type, start, length }) => [fd, type, start, length]),
    BigInt,
  );
  const results = new Int32Array(locks.length);
  try {
    await native().setPosixLocks(pid, numbers, results);
  } catch (error) {
    const { code = 'unknown' } = error as NodeJS.ErrnoException;
    return locks.map(() => code);
  }
  return [...results].map((errno) => (errno === 0 ? undefined : getSystemErrorName(-errno)));
}

/** Whether a process has the lock. Asks the kernel, which shows with a descriptor the locks of its own process only. */
export function isHeld(pid: number, { fd, type, start, length }: DumpedLock): boolean {
  const end = length === 0 ? 'EOF' : String(start + length - 1);
  const line = new RegExp(
    `^lock:\\s+\\d+: POSIX +\\S+ +${lockType(type).toUpperCase()} +\\S+ +\\S+ ${start} ${end}$`,
    'm',
  );
  return line.test(readProc(`${pid}/fdinfo/${fd}`) ?? '');
}

export function lostLock(
  pid: number,
  { fd, type, start, length }: Omit<DumpedLock, 'pid' | 'kind'>,
  reason = 'unknown',
): LostLock {
  return { pid, fd, path: readProcLink(`${pid}/fd/${fd}`), type: lockType(type), start, length, reason };
}

function lockType(type: number): LostLock['type'] {
  return type === 0 ? 'read' : 'write';
}
