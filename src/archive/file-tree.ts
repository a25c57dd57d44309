import { availableParallelism } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { errnoOf } from '../errors.js';
import { native } from '../native.js';
import type { NativeTree } from '../native-files.js';
import { ArchiveError } from './archive-error.js';
import { printable } from './bytes.js';

export interface FileTreeOptions {
  /** Paths below the root that are left out, with all below them. At most 64. */
  exclude?: readonly (string | Buffer)[];
  /** Directories on other file systems stay empty, as with GNU tar's option. Default false: they are archived. */
  oneFileSystem?: boolean;
}

/** What is different from the scan before. */
export interface ScanResult {
  /** Ids; a parent's before its children's, files that changed lately at the end. */
  added: Uint32Array;
  changed: Uint32Array;
  removed: Uint32Array;
  /** Entries on another mount than their parent. */
  crossings: Uint32Array;
  /** The size of all files added or changed. */
  bytes: number;
  /** What `Described.fs` is an index into. */
  fileSystems: readonly { dev: number; type: number; sample: number }[];
}

export const STATUS_GONE = 1;
export const STATUS_UNSETTLED = 2;

/**
 * A tree of files on this machine, scanned and read by native/: the entries live outside of JavaScript's heap
 * and are known here by their ids.
 */
export class FileTree {
  readonly path: Buffer;
  readonly #native: NativeTree = native().treeCreate();
  readonly #excludes: Buffer;
  readonly #oneFileSystem: boolean;

  constructor(path: string | Buffer, options: FileTreeOptions = {}) {
    this.path = Buffer.from(path as string);
    this.#excludes = Buffer.concat((options.exclude ?? []).flatMap((name) => [Buffer.from(name as string), Buffer.alloc(1)]));
    this.#oneFileSystem = options.oneFileSystem ?? false;
  }

  get handle(): NativeTree {
    return this.#native;
  }

  /** @throws ArchiveError TREE_MISSING, TREE_UNREADABLE */
  async scan(options: { hotSinceSec?: number } = {}): Promise<ScanResult> {
    const threads = Math.max(2, Math.min(8, availableParallelism()));
    let bytes: Buffer;
    try {
      bytes = await native().treeScan(this.#native, this.path, threads, options.hotSinceSec ?? 0, this.#oneFileSystem, this.#excludes);
    } catch (cause) {
      const errno = errnoOf(cause);
      throw new ArchiveError(errno === 'ENOENT' || errno === 'ENOTDIR' ? 'TREE_MISSING' : 'TREE_UNREADABLE', { path: printable(this.path), cause });
    }
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    let at = 8;
    const take = (count: number): Uint32Array => words.subarray(at, (at += count));
    const [added, changed, removed, crossings, errors] = [0, 1, 2, 3, 4].map((i) => take(words[i] as number)) as [Uint32Array, Uint32Array, Uint32Array, Uint32Array, Uint32Array];
    if (errors.length > 0) throw this.unreadable(errors[0] as number, errors[1] as number);
    const fileSystems = Array.from({ length: words[7] as number }, () => {
      const [dev, type, sample] = take(3);
      return { dev: dev as number, type: type as number, sample: sample as number };
    });
    return { added, changed, removed, crossings, bytes: (words[5] as number) + (words[6] as number) * 2 ** 32, fileSystems };
  }

  /** Paths below the root. */
  paths(ids: Uint32Array): Buffer[] {
    return this.latin1Paths(ids).map((path) => Buffer.from(path, 'latin1'));
  }

  /** The same as strings, a character a byte: for many paths at once they cost far less. */
  latin1Paths(ids: Uint32Array): string[] {
    const bytes = native().treePaths(this.#native, ids);
    const paths: string[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = bytes.readUInt32LE(at);
      paths.push(bytes.toString('latin1', at + 4, (at += 4 + length)));
    }
    return paths;
  }

  /** Where the entry is on this machine, for a message. */
  fullPath(id: number): string {
    const [path] = this.paths(Uint32Array.of(id));
    return printable(path === undefined || path.length === 0 ? this.path : Buffer.concat([this.path, Buffer.from('/'), path]));
  }

  /** Entries with these inode numbers, on whichever device. */
  find(inodes: Iterable<bigint>): number[] {
    return native().treeFind(this.#native, BigUint64Array.from(inodes));
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
