import { availableParallelism } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import type { NativeTree } from '../../native-files.js';
import { kernelIsFrom } from '../../proc/kernel.js';
import { ArchiveError } from '../format/archive-error.js';
import { bytesToJson, printable } from '../format/byte-text.js';
import { UnsafePathError } from '../../safe-path.js';
import { tellsChanges } from './copy-trust.js';
import { excludesBuffer, MAX_PARTS, type PatternUse } from './excludes.js';
import { openTreeRoot } from './tree-root.js';
import { unlessHeldUp } from './unless-held-up.js';

export interface FileTreeOptions {
  /**
   * Patterns for paths below the root that are left out, with all below them: `cache`, `*.log`.
   * See src/archive/scan/excludes.ts.
   */
  exclude?: readonly (string | Buffer)[] | undefined;
  /** Directories on other file systems stay empty, as with GNU tar's option. Default false: they are archived. */
  oneFileSystem?: boolean;
}

/** What a scan saw, but for what `news` tells of. */
export interface ScanResult {
  /** Ids of the new files that changed lately, the latest at the end; of very many the latest only. */
  late: Uint32Array;
  /** Entries on another mount than their parent. */
  crossings: Uint32Array;
  /** The size of all files added or changed. */
  bytes: number;
  /** What `Described.fs` is an index into. */
  fileSystems: readonly { dev: number; type: number; sample: number }[];
  /** The kernel had told what changed, and only that was looked at. */
  told: boolean;
  /** How many entries were looked at. */
  looks: number;
  /** Something is different from what the last scan knew although it has not changed since `stillSinceMs`. */
  unnoticed: number | undefined;
}

export interface ScanOptions {
  /** Of which new files to tell the order of their change; in seconds. */
  hotSinceSec?: number;
  /** Of a tree that is watched: inodes that may have changed without a word. */
  inodes?: ReadonlySet<bigint>;
  /** The scans before were to know all that had changed until then; in milliseconds. */
  stillSinceMs?: number;
  signal?: AbortSignal | undefined;
}

/** An older kernel (6.1, not 6.12) does not tell of what is written to an overlay, and so to its upper directory. */
export const tellsAll = kernelIsFrom(6, 12);

/** The kinds of native/tree/tree.c. */
const NEWS = { added: 0, changed: 1, removed: 2 } as const;
const NEWS_AT_ONCE = 8192;

/** Whether it is still what the path names need not be asked. */
const JUST_OPENED = Buffer.alloc(0);

/** For one path at a time. */
const pathRoom = Buffer.allocUnsafeSlow(65_536);

/**
 * A tree of files on this machine, scanned and read by native/: the entries live outside of JavaScript's heap
 * and are known here by their ids.
 */
export class ScannedTree {
  readonly path: Buffer;
  readonly #native: NativeTree;
  readonly #patterns: readonly (string | Buffer)[];
  readonly #excludes: Buffer;
  /** A bit for each pattern that has left something out, in any scan. */
  readonly #hits = new Uint32Array(MAX_PARTS / 32);
  readonly #oneFileSystem: boolean;
  /** What the tree holds open. */
  #root: { dev: bigint; ino: bigint } | undefined;

  constructor(path: string | Buffer, options: FileTreeOptions = {}) {
    this.path = absolute(Buffer.from(path as string));
    this.#native = native().treeCreate();
    this.#patterns = options.exclude ?? [];
    this.#excludes = excludesBuffer(this.#patterns);
    this.#oneFileSystem = options.oneFileSystem ?? false;
  }

  get handle(): NativeTree {
    return this.#native;
  }

  /**
   * From the next scan on the kernel tells what changes; a later one looks only at that. False where it cannot.
   * @param ignored Descriptors of files whose writes concern nobody.
   * @throws ArchiveError TREE_UNSAFE
   */
  async watch(ignored: Int32Array, signal?: AbortSignal): Promise<boolean> {
    if (!tellsAll) return false;
    try {
      if (this.#root === undefined) await this.#openRoot(signal);
      await unlessHeldUp(this.#native, native().treeWatch(this.#native, ignored), signal);
      return true;
    } catch (error) {
      signal?.throwIfAborted();
      if (errnoOf(error) === undefined) throw error;
      return false;
    }
  }

  /** Device and inode of its root. @throws ArchiveError TREE_MISSING, TREE_UNREADABLE, TREE_UNSAFE */
  async identify(signal?: AbortSignal): Promise<{ dev: bigint; ino: bigint }> {
    return this.#root ?? (await this.#openRoot(signal));
  }

  async #openRoot(signal: AbortSignal | undefined): Promise<{ dev: bigint; ino: bigint }> {
    try {
      const { fd, dev, ino } = await openTreeRoot(this.path, signal);
      native().treeRoot(this.#native, fd);
      return (this.#root = { dev, ino });
    } catch (cause) {
      throw this.#explain(cause, signal);
    }
  }

  #explain(cause: unknown, signal: AbortSignal | undefined): unknown {
    signal?.throwIfAborted();
    const path = printable(this.path);
    if (cause instanceof UnsafePathError) return new ArchiveError('TREE_UNSAFE', { path, cause });
    const errno = errnoOf(cause);
    if (errno === undefined) return cause;
    const isMissing = errno === 'ENOENT' || errno === 'ENOTDIR';
    return new ArchiveError(isMissing ? 'TREE_MISSING' : 'TREE_UNREADABLE', { path, cause });
  }

  unwatch(): void {
    native().treeUnwatch(this.#native);
  }

  /** Of each pattern of `exclude`, by all scans. */
  patternUses(): PatternUse[] {
    return this.#patterns.map((pattern, i) => ({
      pattern: bytesToJson(Buffer.from(pattern as string)),
      used: ((this.#hits[i >>> 5] as number) & (1 << (i & 31))) !== 0,
    }));
  }

  /** @throws ArchiveError TREE_MISSING, TREE_UNREADABLE, TREE_UNSAFE */
  async scan({ hotSinceSec = 0, inodes, stillSinceMs = 0, signal }: ScanOptions = {}): Promise<ScanResult> {
    const threads = Math.max(2, Math.min(8, availableParallelism()));
    const scanOf = (path: Buffer): Promise<Buffer> => {
      const scanning = native().treeScan(this.#native, {
        path,
        threads,
        hotSinceSec,
        stillSinceMs,
        oneFileSystem: this.#oneFileSystem,
        excludes: this.#excludes,
        inodes: BigUint64Array.from(inodes ?? []),
      });
      return unlessHeldUp(this.#native, scanning, signal);
    };
    const bytes = await this.#whileNamed(scanOf, signal);
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    let at = 9;
    const take = (count: number): Uint32Array => words.subarray(at, (at += count));
    take(MAX_PARTS / 32).forEach((bits, word) => (this.#hits[word]! |= bits));
    const [crossings, errors, late] = [0, 1, 2].map((i) => take(words[i] as number)) as [
      Uint32Array,
      Uint32Array,
      Uint32Array,
    ];
    if (errors.length > 0) throw this.unreadable(errors[0] as number, errors[1] as number);
    const fileSystems = Array.from({ length: words[3] as number }, () => {
      const [dev, type, sample] = take(3);
      return { dev: dev as number, type: type as number, sample: sample as number };
    });
    const [low, high, told, looks, unnoticed] = words.subarray(4) as unknown as [
      number,
      number,
      number,
      number,
      number,
    ];
    return {
      late,
      crossings,
      bytes: low + high * 2 ** 32,
      fileSystems,
      told: told === 1,
      looks,
      unnoticed: unnoticed === 0 ? undefined : unnoticed - 1,
    };
  }

  /**
   * Looks at what is held open as long as the path names it. Whatever it names afterwards, in a file that is replaced
   * by another for example, is opened with the same care as the first.
   */
  async #whileNamed<T>(look: (path: Buffer) => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const isFirst = this.#root === undefined;
    if (isFirst) await this.#openRoot(signal);
    try {
      return await look(isFirst ? JUST_OPENED : this.path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).syscall !== 'root') throw this.#explain(error, signal);
    }
    await this.#openRoot(signal);
    try {
      return await look(JUST_OPENED);
    } catch (error) {
      throw this.#explain(error, signal);
    }
  }

  /**
   * Ids of what the last scan found to be different from the one before; in pieces, a parent's before its children's.
   */
  *news(what: keyof typeof NEWS): Generator<Uint32Array> {
    for (let from = 0; ;) {
      const ids = new Uint32Array(NEWS_AT_ONCE);
      const count = native().treeNews(this.#native, NEWS[what], from, ids);
      if (count > 0) yield ids.subarray(0, count);
      if (count < NEWS_AT_ONCE) return;
      from = (ids[count - 1] as number) + 1;
    }
  }

  /** Its path below the root. */
  pathOf(id: number): Buffer {
    return Buffer.from(pathRoom.subarray(0, native().treePath(this.#native, id, pathRoom)));
  }

  /** Where the entry is on this machine, for a message. */
  fullPath(id: number): string {
    let path: Buffer;
    try {
      path = this.pathOf(id);
    } catch (error) {
      if (errnoOf(error) !== 'ENAMETOOLONG') throw error;
      path = Buffer.from(`… (a path of more than ${pathRoom.length} bytes)`);
    }
    return printable(path.length === 0 ? this.path : Buffer.concat([this.path, Buffer.from('/'), path]));
  }

  /** Entries with these inode numbers, on whichever device. */
  async find(inodes: Iterable<bigint>): Promise<Uint32Array> {
    const ids = await native().treeFind(this.#native, BigUint64Array.from(inodes));
    return new Uint32Array(ids.buffer, ids.byteOffset, ids.length / 4);
  }

  unreadable(id: number, errno: number): ArchiveError {
    const code = getSystemErrorName(-errno);
    const cause = Object.assign(new Error(code), { code, errno: -errno });
    return new ArchiveError('TREE_UNREADABLE', { path: this.fullPath(id), cause });
  }

  close(): void {
    native().treeClose(this.#native);
  }
}

/** Whether the kernel tells of all changes, where it tells of any. What it tells is of one file system. */
export function canBeWatched({ fileSystems, crossings }: ScanResult): boolean {
  return crossings.length === 0 && fileSystems.every(tellsChanges);
}

function absolute(path: Buffer): Buffer {
  return path[0] === 0x2f ? path : Buffer.concat([Buffer.from(`${process.cwd()}/`), path]);
}
