/**
 * Walking to a directory whose path somebody else wrote down: no step may be one that another user could have chosen.
 * It is the idea of systemd's CHASE_SAFE (src/basic/chase.c and fs-util.c, "unsafe_transition"), with two rules more: a
 * directory of a third user is not entered, and a link is followed only where nobody but root and the caller could have
 * put it.
 */
import { closeSync, constants, fstatSync } from 'node:fs';
import { native } from './native.js';
import { AT_FDCWD, O_PATH, RESOLVE_NO_MAGICLINKS } from './openat.js';

/** As many as the kernel follows. Source: Linux, include/linux/namei.h, MAXSYMLINKS. */
const MAX_LINKS = 40;
const { S_IFMT, S_IFLNK, S_IFDIR } = constants;
const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/** Where a path goes through what another user can exchange. */
export class UnsafePathError extends Error {
  override readonly name = 'UnsafePathError';
  constructor(
    /** As far as it had been walked. */
    readonly path: string,
    readonly why: string,
  ) {
    super(`${path} ${why}`);
  }
}

export interface SafeDirectory {
  /** Opened with O_PATH; the caller's to close. */
  fd: number;
  /**
   * Whose directory it is, as far as trust goes: undefined for root's and the caller's own, which nobody else can write
   * to.
   */
  owner: number | undefined;
}

/**
 * Opens an absolute directory, from the root on, each component below the one that is held open before it.
 * @param ownedBy A user whose directories may be on the way, besides root's and the caller's own: below one of theirs
 * all
 *   is theirs, and no link is followed.
 * @throws UnsafePathError; errno errors
 */
export function openSafely(path: string, ownedBy: number | undefined): SafeDirectory {
  const left = components(Buffer.from(path)).reverse();
  let walked = '';
  let fd = openEntry(AT_FDCWD, Buffer.from('/'));
  try {
    let owner = ownerOf('/', fd, undefined, ownedBy);
    for (let links = 0, name = left.pop(); name !== undefined; name = left.pop()) {
      const entry = openEntry(fd, name);
      const shown = `${walked}/${name.toString()}`;
      const { mode, uid } = statAndCloseOnError(entry);
      if ((mode & S_IFMT) === S_IFLNK) {
        const target = readAndClose(entry);
        if (!isOurs(uid)) throw new UnsafePathError(shown, `is a symbolic link that belongs to uid ${uid}`);
        if (owner !== undefined) throw new UnsafePathError(shown, `is a symbolic link in a directory of uid ${owner}`);
        if (++links > MAX_LINKS) throw Object.assign(new Error(`ELOOP: ${shown}`), { code: 'ELOOP' });
        left.push(...components(target).reverse());
        if (target[0] !== 0x2f) continue;
        [fd, walked] = [replace(fd, openEntry(AT_FDCWD, Buffer.from('/'))), ''];
        continue;
      }
      fd = replace(fd, entry);
      walked = shown;
      if ((mode & S_IFMT) !== S_IFDIR) throw Object.assign(new Error(`ENOTDIR: ${walked}`), { code: 'ENOTDIR' });
      owner = ownerOf(walked, fd, owner, ownedBy);
    }
    return { fd, owner };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Whether a file belongs to root or to this process's user. */
export function isOurs(uid: number): boolean {
  return uid === 0 || uid === process.geteuid?.();
}

/** Whether others can rename what is in a directory. An access control list shows in the group's bits. */
export function isOpenToOthers(mode: number): boolean {
  return (mode & WRITABLE_BY_OTHERS) !== 0 && (mode & STICKY) === 0;
}

/** Whose a directory is. `parent` is whose its parent is. */
function ownerOf(
  path: string,
  fd: number,
  parent: number | undefined,
  ownedBy: number | undefined,
): number | undefined {
  const { uid, mode } = fstatSync(fd);
  if (parent !== undefined && uid !== parent)
    throw new UnsafePathError(path, `belongs to uid ${uid}, in a directory of uid ${parent}`);
  if (!isOurs(uid) && uid !== ownedBy) throw new UnsafePathError(path, `belongs to uid ${uid}`);
  if (!isOurs(uid)) return uid;
  if (isOpenToOthers(mode))
    throw new UnsafePathError(path, `has mode ${(mode & 0o7777).toString(8)}: others can rename what is in it`);
  return undefined;
}

function openEntry(dirfd: number, name: Buffer): number {
  return native().openat2(dirfd, name, O_PATH | constants.O_NOFOLLOW, 0, RESOLVE_NO_MAGICLINKS);
}

function statAndCloseOnError(fd: number): { mode: number; uid: number } {
  try {
    return fstatSync(fd);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function readAndClose(fd: number): Buffer {
  try {
    return native().readlinkat(fd, Buffer.alloc(0));
  } finally {
    closeSync(fd);
  }
}

function replace(fd: number, by: number): number {
  closeSync(fd);
  return by;
}

function components(path: Buffer): Buffer[] {
  return path
    .toString('latin1')
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .map((part) => Buffer.from(part, 'latin1'));
}
