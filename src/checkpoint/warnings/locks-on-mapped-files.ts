import type { DumpedLock } from '../../criu/index.js';
import { lookUp } from '../../look-up.js';
import { lockHolders } from '../../proc/locks.js';
import { listProc, readProc } from '../../proc/task.js';
import { Patience } from '../../when-aborted.js';
import { takeTurns } from '../../yield-to-loop.js';
import { pidsByInnermost } from '../base/pids.js';
import { isHeld, lostLock, type LostLock } from '../restore/restore-locks.js';

/** How long a file system may take to say which files are mapped, in milliseconds. */
const PATIENCE_MS = 2000;

/**
 * The POSIX record locks that processes hold on files that they have mapped too. Every restore that is not Stillframe's
 * own loses them: restoreLocks says why.
 */
export async function locksOnMappedFiles(pids: readonly number[], signal?: AbortSignal): Promise<LostLock[]> {
  // Only the descriptors of these have to be looked at.
  const owners = lockHolders('POSIX');
  const found: LostLock[] = [];
  for (const pid of pids) {
    if (owners.has(pid)) found.push(...(await ofMappedFiles(await locksOf(pid, signal), signal)));
  }
  return found;
}

/**
 * Of a container's locks in the images, those on mapped files that its processes do not hold. It runs already: what a
 * process has locked again by itself is not among them.
 * @param root The root of the restored tree, as this process's pid namespace has it.
 */
export async function mappedLocksNotHeld(
  locks: readonly DumpedLock[],
  root: number,
  signal?: AbortSignal,
): Promise<LostLock[]> {
  const posix = locks.filter(({ kind }) => kind === 'posix');
  if (posix.length === 0) return [];
  const pids = pidsByInnermost(root);
  const missing = posix.flatMap((lock) => {
    const pid = pids.get(lock.pid);
    return pid === undefined || isHeld(pid, lock) ? [] : [lostLock(pid, lock, 'mapped')];
  });
  return ofMappedFiles(missing, signal);
}

/** The kernel shows a process's lock with each descriptor of the file: here it comes once. */
async function locksOf(pid: number, signal: AbortSignal | undefined): Promise<LostLock[]> {
  const locks = new Map<string, LostLock>();
  let turn = performance.now();
  for (const fd of listProc(`${pid}/fdinfo`)) {
    const info = readProc(`${pid}/fdinfo/${fd}`) ?? '';
    for (const [, type, file, start, end] of info.matchAll(
      /^lock:\s+\d+: POSIX +\S+ +(READ|WRITE) +\S+ (\S+) (\d+) (\d+|EOF)$/gm,
    )) {
      const from = Number(start);
      locks.set(
        [type, file, start, end].join(' '),
        lostLock(
          pid,
          {
            fd: Number(fd),
            type: type === 'READ' ? 0 : 1,
            start: from,
            length: end === 'EOF' ? 0 : Number(end) - from + 1,
          },
          'mapped',
        ),
      );
    }
    turn = await takeTurns(turn, signal);
  }
  return [...locks.values()];
}

/** Of locks, those whose process has the file mapped; all, where a file system does not answer in time. */
async function ofMappedFiles(locks: readonly LostLock[], signal: AbortSignal | undefined): Promise<LostLock[]> {
  using patience = new Patience(PATIENCE_MS, signal);
  const numbersOf = async (links: readonly string[]): Promise<(string | undefined)[]> =>
    (await lookUp(links, { follow: true, signal: patience.signal })).map((file) => file && `${file.dev}:${file.ino}`);
  const mapped = new Map<number, Set<string | undefined>>();
  try {
    for (const pid of new Set(locks.map((lock) => lock.pid))) mapped.set(pid, new Set(await numbersOf(mappings(pid))));
    const files = await numbersOf(locks.map(({ pid, fd }) => `/proc/${pid}/fd/${fd}`));
    return locks.filter(({ pid }, i) => files[i] !== undefined && mapped.get(pid)?.has(files[i]) === true);
  } catch (error) {
    signal?.throwIfAborted();
    if (patience.signal.aborted) return [...locks];
    throw error;
  }
}

/** Links to the mapped files: on btrfs and overlayfs /proc/PID/maps has other numbers than stat(2). */
function mappings(pid: number): string[] {
  return listProc(`${pid}/map_files`).map((range) => `/proc/${pid}/map_files/${range}`);
}
