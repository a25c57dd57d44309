/**
 * Everything extraction does to a file system, each call below one directory that is held open. Names never
 * leave it: parents are opened with openat2's RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
 * and what is made is made in them by its last component, which no call here follows.
 */
import { closeSync, constants, fchmodSync, fchownSync, ftruncateSync } from 'node:fs';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import type { Entry } from '../format/entry.js';
import { parentName } from '../format/names.js';

const RESOLVE = 0x02 | 0x04 | 0x08; // RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
const O_PATH = 0o10000000;
const AT_SYMLINK_NOFOLLOW = 0x100;
const S_IFIFO = 0o010000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;

/** An archive lists a directory's members together: more open parents than a path has components help little. */
const MAX_OPEN_PARENTS = 64;

const NO_NAME = Buffer.alloc(0);

export class Beneath {
  readonly #native = native();
  readonly #rootFd: number;
  readonly #parents = new Map<string, number>();

  /** @param rootFd stays the caller's */
  constructor(rootFd: number) {
    this.#rootFd = rootFd;
  }

  /** Closes what is open. The root's descriptor is the caller's. */
  close(): void {
    for (const fd of this.#parents.values()) closeSync(fd);
    this.#parents.clear();
  }

  /** A new, empty file, open for writing; the descriptor is the caller's. */
  createFile(name: string): number {
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    return this.#native.openat2(
      this.#parent(name),
      base(name),
      O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
      0o600,
      RESOLVE,
    );
  }

  /** A directory that only its owner can enter, until `finishDirectory` gives it its mode. */
  createDirectory(name: string): void {
    this.#native.mkdirat(this.#parent(name), base(name), 0o700);
  }

  createSymlink(name: string, target: Buffer): void {
    this.#native.symlinkat(target, this.#parent(name), base(name));
  }

  /** Both names are below the root; neither is followed when it is a symbolic link. */
  createHardlink(name: string, target: string): void {
    // The second parent may push the first out of the cache: then it is opened again.
    const from = this.#native.openat2(
      this.#rootFd,
      path(parentName(target)),
      O_PATH | constants.O_DIRECTORY,
      0,
      RESOLVE,
    );
    try {
      this.#native.linkat(from, base(target), this.#parent(name), base(name), 0);
    } finally {
      closeSync(from);
    }
  }

  createNode(name: string, entry: Entry): void {
    const type = entry.type === 'fifo' ? S_IFIFO : entry.type === 'block-device' ? S_IFBLK : S_IFCHR;
    this.#native.mknodat(this.#parent(name), base(name), type | 0o600, entry.devmajor ?? 0, entry.devminor ?? 0);
  }

  /** Owner, attributes, mode and time of an open regular file, in the order in which none undoes another. */
  finishFile(fd: number, entry: Entry): void {
    // chown clears setuid bits and security.capability: they come after it.
    fchownSync(fd, entry.uid, entry.gid);
    for (const { name, value } of entry.xattrs ?? []) this.#native.fsetxattr(fd, name, value);
    fchmodSync(fd, entry.mode);
    this.#time(fd, NO_NAME, entry);
  }

  /** The same for a directory, '' being the root. Nothing may be made below it afterwards, or its time changes. */
  finishDirectory(name: string, entry: Entry): void {
    const fd = this.#native.openat2(this.#rootFd, path(name), constants.O_RDONLY | constants.O_DIRECTORY, 0, RESOLVE);
    try {
      this.finishFile(fd, entry);
    } finally {
      closeSync(fd);
    }
  }

  /** The same for what is not opened: symbolic links, FIFOs and devices. */
  finishUnopened(name: string, entry: Entry): void {
    const parent = this.#parent(name);
    const last = base(name);
    this.#native.fchownat(parent, last, entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW);
    if (entry.xattrs !== undefined) {
      const fd = this.#native.openat2(parent, last, O_PATH | constants.O_NOFOLLOW, 0, 0x08);
      try {
        for (const xattr of entry.xattrs) this.#native.setxattrPathFd(fd, xattr.name, xattr.value);
      } finally {
        closeSync(fd);
      }
    }
    if (entry.type !== 'symlink') this.#native.fchmodat(parent, last, entry.mode, AT_SYMLINK_NOFOLLOW);
    this.#time(parent, last, entry);
  }

  truncate(fd: number, size: number): void {
    ftruncateSync(fd, size);
  }

  #time(dirfd: number, name: Buffer, entry: Entry): void {
    let seconds = entry.mtimeNs / 1_000_000_000n;
    let nanoseconds = entry.mtimeNs % 1_000_000_000n;
    if (nanoseconds < 0n) {
      seconds -= 1n;
      nanoseconds += 1_000_000_000n;
    }
    this.#native.utimensat(dirfd, name, Number(seconds), Number(nanoseconds), AT_SYMLINK_NOFOLLOW);
  }

  /** The descriptor of a name's directory, which is made when the archive has no member for it. */
  #parent(name: string): number {
    const dir = parentName(name);
    if (dir === '') return this.#rootFd;
    const known = this.#parents.get(dir);
    if (known !== undefined) return known;
    const fd = this.#openParent(dir);
    if (this.#parents.size >= MAX_OPEN_PARENTS) this.#forget(this.#parents.keys().next().value as string);
    this.#parents.set(dir, fd);
    return fd;
  }

  #openParent(dir: string): number {
    const open = (): number =>
      this.#native.openat2(this.#rootFd, path(dir), O_PATH | constants.O_DIRECTORY, 0, RESOLVE);
    try {
      return open();
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
    this.#native.mkdirat(this.#parent(dir), base(dir), 0o755);
    return open();
  }

  #forget(dir: string): void {
    const fd = this.#parents.get(dir);
    if (fd === undefined) return;
    this.#parents.delete(dir);
    closeSync(fd);
  }
}

function base(name: string): Buffer {
  return Buffer.from(name.slice(name.lastIndexOf('/') + 1), 'latin1');
}

function path(dir: string): Buffer {
  return Buffer.from(dir === '' ? '.' : dir, 'latin1');
}
