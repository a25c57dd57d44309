import type { FileHandle } from 'node:fs/promises';
import type { StagingFile } from '../file/staging-file.js';
import { writeWhole } from '../file/write-whole.js';
import { ArchiveError } from '../format/archive-error.js';
import type { Entry } from '../format/entry.js';
import { encodeHeader, END_OF_ARCHIVE, padding } from '../format/tar-encode.js';
import { ownHeader } from './own-header.js';
import type { StagedTree } from './staged-tree.js';

/** What the archive consists of, in order. */
export type Part =
  | { kind: 'tree'; tree: StagedTree }
  | {
      kind: 'member';
      name: Buffer;
      offset: number;
      headerBytes: number;
      dataBytes: number;
      digests: Buffer | undefined;
    };

/** So many headers are made between two writes: a millisecond's work. */
const HEADERS_AT_ONCE = 500;

/** So much of a file is in memory while it is copied. */
const PIECE_BYTES = 1024 * 1024;

/**
 * The archive's contents in one file, as it will be read: the staging file of the largest tree, with all
 * else appended to it. Knows which bytes are whose.
 */
export class Body {
  readonly file: StagingFile;
  readonly #parts: Part[] = [];
  end = 0;

  private constructor(file: StagingFile) {
    this.file = file;
  }

  /** Puts the trees together. The other files of theirs are of no use afterwards. */
  static async of(trees: readonly StagedTree[], openFile: () => Promise<StagingFile>): Promise<Body> {
    const [base, ...others] = [...trees].sort((a, b) => b.area.end - a.area.end);
    if (base === undefined) return new Body(await openFile());
    const stays = base.mayStay;
    const body = new Body(stays ? base.file : await openFile());
    if (stays) {
      await base.area.compact();
      await body.#close(base, 0);
    } else {
      await body.#append(base);
    }
    for (const other of others) await body.#append(other);
    return body;
  }

  get fd(): number {
    return this.file.fd;
  }

  get parts(): readonly Part[] {
    return this.#parts;
  }

  /** A member that is written here and now. */
  async addDocument(name: Buffer, data: Buffer): Promise<void> {
    const header = ownHeader(name, data.length);
    await this.write(this.end + header.length, Buffer.concat([data, Buffer.alloc(padding(data.length))]));
    await this.#addMember(name, header, data.length);
  }

  /**
   * The same of a file's bytes, of which never more than a piece is in memory. The file may grow or shrink meanwhile.
   */
  async addFile(
    name: Buffer,
    from: FileHandle,
    { path, signal }: { path: string; signal?: AbortSignal | undefined },
  ): Promise<void> {
    const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
    let { size } = await from.stat();
    for (;;) {
      // How long the header is depends on the size, which is known for sure only when the data is there.
      const start = this.end + ownHeader(name, size).length;
      let copied = 0;
      while (copied < size) {
        signal?.throwIfAborted();
        const read = await from.read(piece, 0, Math.min(PIECE_BYTES, size - copied), copied).catch((cause: unknown) => {
          throw new ArchiveError('TREE_UNREADABLE', { path, cause });
        });
        if (read.bytesRead === 0) break;
        await this.write(start + copied, piece.subarray(0, read.bytesRead));
        copied += read.bytesRead;
      }
      size = copied;
      const header = ownHeader(name, size);
      if (this.end + header.length !== start) continue;
      await this.write(start + size, Buffer.alloc(padding(size)));
      return this.#addMember(name, header, size);
    }
  }

  /** The data is in its place behind where the header goes. */
  async #addMember(name: Buffer, header: Buffer, dataBytes: number): Promise<void> {
    await this.write(this.end, header);
    this.#note(name, this.end, header.length, dataBytes);
    this.end += header.length + dataBytes + padding(dataBytes);
  }

  #note(name: Buffer, offset: number, headerBytes: number, dataBytes: number): void {
    this.#parts.push({ kind: 'member', name, offset, headerBytes, dataBytes, digests: undefined });
  }

  /** A tree whose area lies at the body's end. */
  async addTree(tree: StagedTree): Promise<void> {
    await tree.area.compact();
    this.#parts.push({ kind: 'tree', tree });
    this.end = tree.area.end;
  }

  write(offset: number, bytes: Buffer): Promise<void> {
    return writeWhole(this.file.handle, bytes, offset);
  }

  /** Copies a tree to the end. */
  async #append(tree: StagedTree): Promise<void> {
    const start = this.end;
    await tree.moveTo(this.file, start);
    await this.#close(tree, start);
  }

  /**
   * Turns the tree in its place into parts; a nested one becomes a tar with a header in front, what was appended to it,
   * and an end.
   */
  async #close(tree: StagedTree, start: number): Promise<void> {
    const { area, name, appended } = tree;
    if (tree.layout === 'members') {
      this.#parts.push({ kind: 'tree', tree });
      this.end = area.end;
      return;
    }
    const end = await this.#writeHeaders(area.end, appended);
    const dataBytes = end - area.start + END_OF_ARCHIVE.length;
    const header = tree.memberHeader(dataBytes);
    await this.write(start, header);
    await this.write(end, END_OF_ARCHIVE);
    this.#note(name, start, header.length, dataBytes);
    this.end = end + END_OF_ARCHIVE.length;
  }

  /** Members without data; returns where they end. */
  async #writeHeaders(at: number, entries: readonly Entry[]): Promise<number> {
    let end = at;
    for (let from = 0; from < entries.length; from += HEADERS_AT_ONCE) {
      const headers = Buffer.concat(entries.slice(from, from + HEADERS_AT_ONCE).map((entry) => encodeHeader(entry)));
      await this.write(end, headers);
      end += headers.length;
    }
    return end;
  }
}
