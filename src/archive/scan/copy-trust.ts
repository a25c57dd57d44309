/**
 * When a copy made while the files were in use may still be believed once they stand still.
 *
 * A stat that has not changed proves it, but for three holes, each shown by a test on a real kernel:
 * - Two writes within one tick of the kernel's clock leave the same ctime (before Linux 6.13: there the
 *   timestamps that somebody has looked at are fine-grained). So the ctime must be older than the pass.
 * - A page of a shared mapping that is writable already is written without the kernel noticing: one ctime for
 *   any number of writes until write-back. So the file must not be mapped so, then and now.
 * - On a file system that does not ask to be told of such first writes (tmpfs, ramfs, hugetlbfs) the ctime
 *   does not move even once. There, and where nobody knows (network, FUSE), no copy is believed.
 */
import { readFileSync, statfsSync } from 'node:fs';
import { mountLines } from '../../proc/mountinfo.js';
import { unescapeOctalBytes } from '../../proc/octal.js';

/** Files that tasks have mapped or open: `dev:ino`, in stat(2)'s numbers. */
export type FilesInUse = ReadonlySet<string>;

/** The clock's tick is at most 10 ms (HZ=100); the kernel reads it once a tick, so a ctime may be one behind. */
export const TICKS_MS = 25;

/** Statfs types (statfs(2)). */
export const XFS = 0x58465342;
export const BTRFS = 0x9123683e;
const OVERLAYFS = 0x794c7630;
const TMPFS = 0x01021994;

/** Statfs types whose files' first write through a mapping moves the ctime (page_mkwrite), all on this machine. */
const NOTIFYING = new Set([
  0xef53, // ext2, ext3, ext4
  XFS,
  BTRFS,
  0xf2f52010, // f2fs
]);

export class PassTrust {
  /** A ctime before this is of a tick that was over before the pass looked at anything. */
  readonly #ctimeBeforeMs: number;
  readonly #inodes: ReadonlySet<bigint>;

  /** `startedMs`: the wall clock before the mappings were read. */
  constructor(startedMs: number, mapped: FilesInUse) {
    this.#ctimeBeforeMs = startedMs - TICKS_MS;
    this.#inodes = inodesOf(mapped);
  }

  isOld(ctimeMs: number): boolean {
    return ctimeMs < this.#ctimeBeforeMs;
  }

  /** Whether anything is mapped at all. */
  get hasMapped(): boolean {
    return this.#inodes.size > 0;
  }

  isMapped(ino: bigint): boolean {
    return this.#inodes.has(ino);
  }
}

/**
 * The inode numbers alone: a file of an overlay has another device number when it is mapped than it has in the
 * upper directory. A number that some other file has too costs that file's copy, nothing else.
 */
export function inodesOf(mapped: FilesInUse): Set<bigint> {
  const inodes = new Set<bigint>();
  for (const key of mapped) inodes.add(BigInt(key.slice(key.indexOf(':') + 1)));
  return inodes;
}

/**
 * Whether all that changes there changes on this machine and in sight of the kernel's fanotify. Not an overlay, which
 * cannot be watched as a whole; its upper directory can.
 */
export function tellsChanges({ type }: { type: number }): boolean {
  return NOTIFYING.has(type) || type === TMPFS;
}

/** Whether copies from this file system can be believed. */
export function notifiesWrites(fileSystem: { dev: number; type: number }): boolean {
  if (fileSystem.type !== OVERLAYFS) return NOTIFYING.has(fileSystem.type);
  // What is written to an overlay is written to its upper directory's file system.
  const upper = upperDirOf(fileSystem.dev);
  if (upper === undefined) return false;
  try {
    return NOTIFYING.has(statfsSync(upper).type);
  } catch {
    return false;
  }
}

function upperDirOf(dev: number): string | undefined {
  const device = `${dev >>> 20}:${dev & 0xfffff}`;
  for (const mount of mountLines(readFileSync('/proc/self/mountinfo', 'latin1'))) {
    const upper = /(?:^|,)upperdir=([^,]+)/.exec(mount.superOptions)?.[1];
    if (mount.device === device && upper !== undefined) return unescapeOctalBytes(upper);
  }
  return undefined;
}
