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

/**
 * The kernel takes paths of up to 4,095 bytes, and time for each component. What lies deeper is opened from a directory
 * on the way, one in about so many bytes.
 */
const STAGE_BYTES = 512;
/** As many as the longest name has. */
const MAX_STAGES = 65_536 / STAGE_BYTES;

const NO_NAME = Buffer.alloc(0);

export class Beneath {
  readonly #native = native();
  readonly #rootFd: number;
  readonly #parents = new Map<string, number>();
  /** Directories on the way to deeper ones. */
  readonly #stages = new Map<string, number>();

  /** @param rootFd stays the caller's */
  constructor(rootFd: number) {
    this.#rootFd = rootFd;
  }

  /** Closes what is open. The root's descriptor is the caller's. */
  close(): void {
    for (const open of [this.#parents, this.#stages]) {
      for (const fd of open.values()) closeSync(fd);
      open.clear();
    }
  }

  /** A new, empty file, open for reading and writing; the descriptor is the caller's. */
  createFile(name: string): number {
    const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    return this.#native.openat2(
      this.#parent(name),
      base(name),
      O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW,
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
    withFd(this.#openDirectory(parentName(target)), (from) => {
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

  /**
   * What `describeFd` does, for a directory, '' being the root. Nothing may be made below it afterwards, or its time
   * changes.
   */
  finishDirectory(name: string, entry: Entry): void {
    const flags = constants.O_RDONLY | constants.O_DIRECTORY;
    const { stage, rest } = this.#wayTo(name);
    withFd(this.#native.openat2(stage, rest, flags, 0, NO_LINKS), (fd) => {
      describeFd(fd, entry);
    });
  }

  /**
   * The same for what was just made and is not opened: symbolic links, FIFOs and devices. By a descriptor, which is
   * seen to be of what was made: a name may be another file's by now, where the directory is open to others.
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
    keep(this.#parents, dir, fd, MAX_OPEN_PARENTS);
    return fd;
  }

  #openParent(dir: string): number {
    try {
      return this.#openDirectory(dir);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
    let fd = this.#openDirectory('');
    for (const part of dir.split('/')) fd = withFd(fd, (above) => this.#openOrMake(above, path(part)));
    return fd;
  }

  #openOrMake(above: number, name: Buffer): number {
    try {
      return openDirectoryAt(above, name);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
    this.#native.mkdirat(above, name, 0o755);
    return openDirectoryAt(above, name);
  }

  #openDirectory(dir: string): number {
    // What is made in a directory that was just made: from where that was made in.
    const above = this.#parents.get(parentName(dir));
    if (above !== undefined) return openDirectoryAt(above, base(dir));
    const { stage, rest } = this.#wayTo(dir);
    return openDirectoryAt(stage, rest);
  }

  /** A descriptor on the way to a directory, and a path from there that is short enough. */
  #wayTo(dir: string): { stage: number; rest: Buffer } {
    if (dir.length <= STAGE_BYTES) return { stage: this.#rootFd, rest: path(dir) };
    // The same for all that lies in it: no component is longer than 255 bytes.
    const cut = dir.lastIndexOf('/', Math.floor((dir.length - 1) / STAGE_BYTES) * STAGE_BYTES);
    const name = dir.slice(0, cut);
    let stage = this.#stages.get(name);
    if (stage === undefined) {
      stage = this.#openDirectory(name);
      keep(this.#stages, name, stage, MAX_STAGES);
    }
    return { stage, rest: path(dir.slice(cut + 1)) };
  }
}

/** Puts a descriptor among the open ones; of too many the oldest is closed. */
function keep(open: Map<string, number>, name: string, fd: number, most: number): void {
  const [oldest] = open;
  if (oldest !== undefined && open.size >= most) {
    open.delete(oldest[0]);
    closeSync(oldest[1]);
  }
  open.set(name, fd);
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
