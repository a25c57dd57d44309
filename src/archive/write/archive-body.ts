import { createHash, type Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { ArchiveError } from '../format/archive-error.js';
import { native } from '../../native.js';
import type { Area } from '../members/segments.js';
import { MEMBER_DIGESTS } from '../members/description.js';
import { checksumLine } from '../format/manifest.js';
import type { Entry } from '../format/entry.js';
import { MemberLines } from './checksum-lines.js';
import type { StagedTree } from './staged-tree.js';
import type { StagingFile } from '../file/staging-file.js';
import { writeWhole } from '../file/write-whole.js';
import { takeTurns } from '../../yield-to-loop.js';
import { END_OF_ARCHIVE, encodeHeader, padding } from '../format/tar-encode.js';

/** A nested tree's member as far as it is known before the tree is. Its header takes this much room in front. */
export function nestedHeader(name: Buffer, mtimeNs: bigint, size: number): Buffer {
  return encodeHeader({
    name,
    type: 'file',
    mode: 0o600,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    size,
    mtimeNs,
  });
}

/** A fraction of a second, so that the header has a pax part whatever the size: then its length is known beforehand. */
export function nestedTime(): bigint {
  return BigInt(Date.now()) * 1_000_000n + 1n;
}

/** What the archive consists of, in order. */
type Part =
  | { kind: 'tree'; tree: StagedTree; area: Area }
  | {
      kind: 'member';
      name: Buffer;
      offset: number;
      headerBytes: number;
      dataBytes: number;
      digests: Buffer | undefined;
    };

export interface NestedTree {
  tree: StagedTree;
  file: StagingFile;
  /** Its member's time; undefined for layout `members`. */
  mtimeNs: bigint | undefined;
}

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

  /** Puts the trees together. Those of `trees` whose file is not the body's are of no use afterwards. */
  static async of(trees: readonly NestedTree[], openFile: () => Promise<StagingFile>): Promise<Body> {
    const [base, ...others] = [...trees].sort((a, b) => b.tree.area.end - a.tree.area.end);
    if (base === undefined) return new Body(await openFile());
    const stays = base.tree.rootSegment === firstLive(base.tree.area) && headerFits(base);
    const body = new Body(stays ? base.file : await openFile());
    if (stays) {
      await base.tree.area.compact();
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

  /** A member that is written here and now. */
  async addDocument(name: Buffer, data: Buffer): Promise<void> {
    const header = documentHeader(name, data.length);
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
      const start = this.end + documentHeader(name, size).length;
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
      const header = documentHeader(name, size);
      if (this.end + header.length !== start) continue;
      await this.write(start + size, Buffer.alloc(padding(size)));
      return this.#addMember(name, header, size);
    }
  }

  /** The data is in its place behind where the header goes. */
  async #addMember(name: Buffer, header: Buffer, dataBytes: number): Promise<void> {
    await this.write(this.end, header);
    this.#parts.push({
      kind: 'member',
      name,
      offset: this.end,
      headerBytes: header.length,
      dataBytes,
      digests: undefined,
    });
    this.end += header.length + dataBytes + padding(dataBytes);
  }

  /** A tree whose area lies at the body's end. */
  async addTree(tree: StagedTree): Promise<void> {
    await tree.area.compact();
    this.#parts.push({ kind: 'tree', tree, area: tree.area });
    this.end = tree.area.end;
  }

  write(offset: number, bytes: Buffer): Promise<void> {
    return writeWhole(this.file.handle, bytes, offset);
  }

  /** Hashes what has not been hashed in passing. What is appended from here on does not count. */
  async hashMembers(): Promise<void> {
    for (const part of this.#parts) {
      if (part.kind === 'tree') await part.area.hashMembers();
      else part.digests ??= await this.#hash(part.offset, part.headerBytes, part.dataBytes);
    }
  }

  async #hash(...member: [offset: number, headerBytes: number, dataBytes: number]): Promise<Buffer> {
    const digests = Buffer.alloc(MEMBER_DIGESTS);
    await native().hashMembers(this.fd, Float64Array.from(member), digests);
    return digests;
  }

  /** The digest over the digests of all that is not data, a member after the other. */
  async headersSha256(): Promise<Buffer> {
    const hash = createHash('sha256');
    for (const part of this.#parts) {
      if (part.kind === 'tree') await hashHeaders(part.area, hash);
      else hash.update((part.digests as Buffer).subarray(0, MEMBER_DIGESTS / 2));
    }
    return hash.digest();
  }

  /**
   * The list of hashes, in pieces, and what it adds up to. Threads make the next ones while the caller has one, which
   * is to be used before the next is asked for.
   */
  async *lines(totals: { members: number; bytes: number }): AsyncGenerator<Buffer> {
    const ahead: (MemberLines | Buffer)[] = [];
    const spare: MemberLines[] = [];
    try {
      for (const made of this.#lines(totals, spare)) {
        ahead.push(made);
        if (ahead.length > LINES_AHEAD) yield* piecesOf(ahead, spare);
      }
      while (ahead.length > 0) yield* piecesOf(ahead, spare);
    } finally {
      // Nothing may go on in a thread when the caller closes what it works on.
      for (const made of ahead) if (made instanceof MemberLines) await made.settle();
    }
  }

  *#lines(totals: { members: number; bytes: number }, spare: MemberLines[]): Generator<MemberLines | Buffer> {
    for (const part of this.#parts) {
      if (part.kind === 'member') {
        totals.members++;
        totals.bytes += part.dataBytes;
        yield checksumLine((part.digests as Buffer).subarray(MEMBER_DIGESTS / 2), part.name);
        continue;
      }
      for (let from = 0; from < part.area.count;) {
        const lines = spare.pop() ?? new MemberLines();
        from = lines.start(part.tree, part.area, from, totals);
        yield lines;
      }
    }
  }

  /** Copies a tree to the end. */
  async #append(staged: NestedTree): Promise<void> {
    const { tree, mtimeNs } = staged;
    const start = this.end;
    const headerBytes = mtimeNs === undefined ? 0 : nestedHeader(tree.name, mtimeNs, tree.area.end).length;
    tree.area = await tree.area.copyTo(this.fd, start + headerBytes, tree.rootSegment);
    await this.#close(staged, start);
  }

  /**
   * Turns the tree in its place into parts; a nested one becomes a tar with a header in front, what was appended to it,
   * and an end.
   */
  async #close({ tree, mtimeNs }: NestedTree, start: number): Promise<void> {
    const { area } = tree;
    if (mtimeNs === undefined) {
      this.#parts.push({ kind: 'tree', tree, area });
      this.end = area.end;
      return;
    }
    const end = await this.#writeHeaders(area.end, tree.appended);
    const dataBytes = end - area.start + END_OF_ARCHIVE.length;
    const header = nestedHeader(tree.name, mtimeNs, dataBytes);
    await this.write(start, header);
    await this.write(end, END_OF_ARCHIVE);
    this.#parts.push({
      kind: 'member',
      name: tree.name,
      offset: start,
      headerBytes: header.length,
      dataBytes,
      digests: undefined,
    });
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

/** So many headers are made between two writes: a millisecond's work. */
const HEADERS_AT_ONCE = 500;

/** So much of a file is in memory while it is copied. */
const PIECE_BYTES = 1024 * 1024;

function documentHeader(name: Buffer, size: number): Buffer {
  return encodeHeader({
    name,
    type: 'file',
    mode: 0o600,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    size,
    mtimeNs: wholeSecond(),
  });
}

/** So many parts of the list are made ahead. */
const LINES_AHEAD = 4;

/** Of the first one, which then can be used again. */
async function* piecesOf(ahead: (MemberLines | Buffer)[], spare: MemberLines[]): AsyncGenerator<Buffer> {
  const made = ahead.shift();
  if (!(made instanceof MemberLines)) {
    if (made !== undefined) yield made;
    return;
  }
  yield* made.pieces();
  spare.push(made);
}

/** Digests of so many segments are looked at together. */
const SEGMENTS = 4096;

async function hashHeaders(area: Area, hash: Hash): Promise<void> {
  const digests = Buffer.allocUnsafeSlow(SEGMENTS * MEMBER_DIGESTS);
  let since = performance.now();
  for (let from = 0; from < area.count; from += SEGMENTS) {
    const end = Math.min(area.count, from + SEGMENTS);
    area.readDigests(from, end, digests);
    let bytes = 0;
    for (let segment = from; segment < end; segment++) {
      const at = (segment - from) * MEMBER_DIGESTS;
      if (area.isLive(segment)) bytes += digests.copy(digests, bytes, at, at + MEMBER_DIGESTS / 2);
    }
    hash.update(digests.subarray(0, bytes));
    since = await takeTurns(since);
  }
}

/** Seconds only: such a header is one block. */
export function wholeSecond(): bigint {
  return BigInt(Math.floor(Date.now() / 1000)) * 1_000_000_000n;
}

function firstLive(area: Area): number {
  for (let segment = 0; segment < area.count; segment++) if (area.isLive(segment)) return segment;
  return -1;
}

function headerFits({ tree, mtimeNs }: NestedTree): boolean {
  return mtimeNs === undefined || nestedHeader(tree.name, mtimeNs, tree.area.end).length === tree.area.start;
}
