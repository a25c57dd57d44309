/**
 * Everything extraction does to a file system, each call below one directory that is held open. Names never
 * leave it: parents are opened with openat2's RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
 * and what is made is made in them by its last component, which no call here follows.
 */
import { closeSync, constants, fchmodSync, fchownSync, fstatSync, ftruncateSync } from 'node:fs';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import {
  chmodPathFd,
  chownPathFd,
  NO_LINKS,
  O_PATH,
  openDirectoryAt,
  RESOLVE_BENEATH,
  setTimeOfPathFd,
  timespec,
  withFd,
} from '../../openat.js';
import type { Entry } from '../format/entry.js';
import { parentName } from '../format/names.js';

const { S_IFMT, S_IFIFO, S_IFCHR, S_IFBLK, S_IFLNK } = constants;

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
      NO_LINKS,
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
    withFd(openDirectoryAt(this.#rootFd, path(parentName(target))), (from) => {
      this.#native.linkat(from, base(target), this.#parent(name), base(name), 0);
    });
  }

  createNode(name: string, entry: Entry): void {
    this.#native.mknodat(
      this.#parent(name),
      base(name),
      formatOf(entry) | 0o600,
      entry.devmajor ?? 0,
      entry.devminor ?? 0,
    );
  }

  /** What `describeFd` does, for a directory, '' being the root. Nothing may be made below it afterwards, or its time changes. */
  finishDirectory(name: string, entry: Entry): void {
    const flags = constants.O_RDONLY | constants.O_DIRECTORY;
    withFd(this.#native.openat2(this.#rootFd, path(name), flags, 0, NO_LINKS), (fd) => {
      describeFd(fd, entry);
    });
  }

  /**
   * The same for what was just made and is not opened: symbolic links, FIFOs and devices. By a descriptor, which is seen to
   * be of what was made: a name may be another file's by now, where the directory is open to others.
   */
  finishUnopened(name: string, entry: Entry): void {
    const flags = O_PATH | constants.O_NOFOLLOW;
    withFd(this.#native.openat2(this.#parent(name), base(name), flags, 0, RESOLVE_BENEATH), (fd) => {
      const { mode, nlink, uid } = fstatSync(fd);
      if ((mode & S_IFMT) !== formatOf(entry) || nlink !== 1 || uid !== process.geteuid?.())
        throw new Error('another file has taken its place');
      chownPathFd(fd, entry.uid, entry.gid);
      for (const xattr of entry.xattrs ?? []) this.#native.setxattrPathFd(fd, xattr.name, xattr.value);
      if (entry.type !== 'symlink') chmodPathFd(fd, entry.mode);
      setTimeOfPathFd(fd, entry.mtimeNs);
    });
  }

  truncate(fd: number, size: number): void {
    ftruncateSync(fd, size);
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
    try {
      return openDirectoryAt(this.#rootFd, path(dir));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
    this.#native.mkdirat(this.#parent(dir), base(dir), 0o755);
    return openDirectoryAt(this.#rootFd, path(dir));
  }

  #forget(dir: string): void {
    const fd = this.#parents.get(dir);
    if (fd === undefined) return;
    this.#parents.delete(dir);
    closeSync(fd);
  }
}

/** Owner, attributes, mode and time of an open file or directory, in the order in which none undoes another. */
export function describeFd(fd: number, entry: Entry): void {
  // chown clears setuid bits and security.capability: they come after it.
  fchownSync(fd, entry.uid, entry.gid);
  for (const { name, value } of entry.xattrs ?? []) native().fsetxattr(fd, name, value);
  fchmodSync(fd, entry.mode);
  const { seconds, nanoseconds } = timespec(entry.mtimeNs);
  native().utimensat(fd, NO_NAME, seconds, nanoseconds, 0);
}

/** The file type's bits of a mode. */
function formatOf({ type }: Entry): number {
  return type === 'fifo' ? S_IFIFO : type === 'block-device' ? S_IFBLK : type === 'symlink' ? S_IFLNK : S_IFCHR;
}

function base(name: string): Buffer {
  return Buffer.from(name.slice(name.lastIndexOf('/') + 1), 'latin1');
}

function path(dir: string): Buffer {
  return Buffer.from(dir === '' ? '.' : dir, 'latin1');
}
