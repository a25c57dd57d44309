/**
 * Opening files below a directory that is held open: the flags that Node.js does not name, and the two ways in which a
 * path may be resolved there. Whatever moves or links about meanwhile, the kernel never leads either of them out of the
 * directory. Source: openat2(2); Linux, include/uapi/linux/openat2.h and fcntl.h, v6.12.
 */
import { closeSync, constants, fstatSync, openSync, type BigIntStats } from 'node:fs';
import { errnoOf } from './errors.js';
import { native } from './native.js';

export const RESOLVE_NO_XDEV = 0x01;
export const RESOLVE_NO_MAGICLINKS = 0x02;
export const RESOLVE_NO_SYMLINKS = 0x04;
export const RESOLVE_BENEATH = 0x08;
export const RESOLVE_IN_ROOT = 0x10;

/** No link is followed, not even one that stays below the directory. */
export const NO_LINKS = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
/** Links are followed as a process would whose root directory this is: `/` and `..` end there. */
export const IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;

/** The file itself, whatever it is: opening it has no effect on it. */
export const O_PATH = 0o10000000;
export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_EMPTY_PATH = 0x1000;
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;

/**
 * The paths of an open descriptor's file, for calls that take none: the link there leads to the very file, and no
 * further.
 */
export function pathOfFd(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** Runs `act` with a descriptor that is closed afterwards. */
export function withFd<T>(fd: number, act: (fd: number) => T): T {
  try {
    return act(fd);
  } finally {
    closeSync(fd);
  }
}

/** A directory below another, for use as the base of further calls. */
export function openDirectoryAt(dirfd: number, path: Buffer, resolve: number = NO_LINKS): number {
  return native().openat2(dirfd, path, O_PATH | constants.O_DIRECTORY, 0, resolve);
}

/** Another descriptor of a directory, for reading it; the given one may be an O_PATH. */
export function reopenDirectory(fd: number): number {
  return openSync(pathOfFd(fd), constants.O_RDONLY | constants.O_DIRECTORY);
}

/** What a name is in a directory, links not followed; undefined when nothing has it. */
export function lstatAt(dirfd: number, name: Buffer): BigIntStats | undefined {
  try {
    return withFd(native().openat2(dirfd, name, O_PATH | constants.O_NOFOLLOW, 0, RESOLVE_BENEATH), (fd) =>
      fstatSync(fd, { bigint: true }),
    );
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * The owner of a file that was opened with O_PATH, of any kind, a symbolic link included. It clears setuid and setgid
 * bits.
 */
export function chownPathFd(fd: number, uid: number, gid: number): void {
  native().fchownat(fd, Buffer.alloc(0), uid, gid, AT_EMPTY_PATH);
}

/** The mode of a file that was opened with O_PATH. A symbolic link has none: EOPNOTSUPP. */
export function chmodPathFd(fd: number, mode: number): void {
  native().fchmodat(AT_FDCWD, Buffer.from(pathOfFd(fd)), mode, 0);
}

/** The modification time of a file that was opened with O_PATH, of any kind. */
export function setTimeOfPathFd(fd: number, mtimeNs: bigint): void {
  const { seconds, nanoseconds } = timespec(mtimeNs);
  native().utimensat(AT_FDCWD, Buffer.from(pathOfFd(fd)), seconds, nanoseconds, 0);
}

/** Nanoseconds since 1970 as the kernel wants them: the part below a second is never negative. */
export function timespec(timeNs: bigint): { seconds: number; nanoseconds: number } {
  const nanoseconds = ((timeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return { seconds: Number((timeNs - nanoseconds) / 1_000_000_000n), nanoseconds: Number(nanoseconds) };
}
