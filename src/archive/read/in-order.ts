/**
 * Members in the order in which they come. A plain file is read by its headers alone; what can only be read from front
 * to back (a pipe, a compressed file) is, without being stored anywhere.
 */
import type { Entry } from '../format/entry.js';
import { TarParser } from '../format/tar-decode.js';
import { padding } from '../format/tar-encode.js';
import { begin, type Compression } from './begin.js';
import { contentOf, opened, readMember, truncated, walkMembers, type OpenArchive } from './reader.js';
import { nameOfSource, type ArchiveSource } from './source.js';
import { unpack } from './unpack.js';

export interface MemberInTurn {
  entry: Entry;
  /** A sparse file's ranges only. */
  storedBytes: number;
  /**
   * The content, holes filled. Only until the next member is asked for.
   * @throws ArchiveError MEMBER_TOO_BIG when it is longer than maxBytes, ARCHIVE_TRUNCATED
   */
  read(maxBytes: number): Promise<Buffer>;
}

export interface ArchiveInOrder extends AsyncDisposable {
  /** As the caller named it. */
  readonly path: string;
  readonly compression: Compression;
  /**
   * Once.
   * @throws ArchiveError NOT_AN_ARCHIVE, ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED, ARCHIVE_UNSUPPORTED, ARCHIVE_TOO_BIG
   */
  members(): AsyncGenerator<MemberInTurn, void, void>;
}

export interface OpenInOrderOptions {
  /** How errors name it. Default: its path, or what it is. */
  name?: string | undefined;
  /** How much a compressed archive may unpack to, and a stream may bring, in bytes. Default: 1 TiB. */
  maxUnpackedBytes?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Nothing is stored, so no disk limits it: a few minutes of decompressing zeros. */
const MOST_BYTES = 2 ** 40;

/** @throws ArchiveError ARCHIVE_UNREADABLE, ARCHIVE_TRUNCATED; the signal's reason */
export async function openInOrder(source: ArchiveSource, options: OpenInOrderOptions = {}): Promise<ArchiveInOrder> {
  const { name: path = nameOfSource(source), maxUnpackedBytes: mostBytes = MOST_BYTES, signal } = options;
  const begun = await begin(source, path, signal);
  const close = begun.close;
  if (begun.kind === 'in-order') {
    const { compression, chunks } = begun;
    const members = (): ReturnType<ArchiveInOrder['members']> =>
      membersOfChunks(unpack({ path, mostBytes, signal }, chunks, compression), path, compression !== 'zstd');
    return { path, compression, members, [Symbol.asyncDispose]: close };
  }
  const archive = opened(path, begun.handle, begun.bytes, 'none', close);
  return { path, compression: 'none', members: () => membersOfFile(archive), [Symbol.asyncDispose]: close };
}

/** Those of an archive that can be read at any offset. */
export async function* membersOfFile(archive: OpenArchive): AsyncGenerator<MemberInTurn, void, void> {
  for await (const member of walkMembers(archive)) {
    const { entry, storedBytes } = member;
    yield { entry, storedBytes, read: (maxBytes) => readMember(archive, member, maxBytes) };
  }
}

async function* membersOfChunks(
  chunks: AsyncGenerator<Buffer, void, void>,
  archivePath: string,
  mayLackEnd: boolean,
): AsyncGenerator<MemberInTurn, void, void> {
  const bytes = new BytesInOrder(chunks);
  const parser = new TarParser({ archivePath });
  try {
    for (;;) {
      // Some tars of others lack their end. The zstd of Node.js 22 does not notice that its stream is cut short.
      if (mayLackEnd && parser.atMember && (await bytes.atEnd())) return;
      const { need } = parser;
      const at = bytes.offset;
      const block = await bytes.take(need);
      if (block === undefined) throw truncated(archivePath, bytes.offset);
      const parsed = parser.push(block, at);
      if (parsed === undefined) continue;
      if (parsed.kind === 'end') break;
      const { entry, storedBytes } = parsed;
      const next = bytes.offset + storedBytes + padding(storedBytes);
      const fill = async (range: Buffer): Promise<void> => {
        if (!(await bytes.fill(range))) throw truncated(archivePath, bytes.offset, entry.name);
      };
      yield { entry, storedBytes, read: (maxBytes) => contentOf(archivePath, entry, maxBytes, fill) };
      if (!(await bytes.skip(next - bytes.offset))) throw truncated(archivePath, bytes.offset, entry.name);
    }
    // To the source's own end, which a compressed one checks; and no program at the other end of a pipe dies of it.
    while (!(await bytes.atEnd())) await bytes.skip(bytes.buffered);
  } finally {
    await chunks.return();
  }
}

/** Chunks of any size as pieces of a size that is asked for. */
class BytesInOrder {
  readonly #chunks: AsyncIterator<Buffer, void, void>;
  #rest: Buffer = Buffer.alloc(0);
  /** Of the next byte. */
  offset = 0;

  constructor(chunks: AsyncIterator<Buffer, void, void>) {
    this.#chunks = chunks;
  }

  get buffered(): number {
    return this.#rest.length;
  }

  /** Whether nothing more comes; what comes next is buffered. */
  async atEnd(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const { done, value } = await this.#chunks.next();
      if (done === true) return true;
      this.#rest = value;
    }
    return false;
  }

  /** Undefined when fewer come. */
  async take(count: number): Promise<Buffer | undefined> {
    if (this.#rest.length >= count) return this.#drop(count);
    const piece = Buffer.allocUnsafe(count);
    return (await this.fill(piece)) ? piece : undefined;
  }

  /** False when fewer come. */
  async fill(into: Buffer): Promise<boolean> {
    for (let done = 0; done < into.length;) {
      if (await this.atEnd()) return false;
      done += this.#drop(Math.min(this.#rest.length, into.length - done)).copy(into, done);
    }
    return true;
  }

  /** False when fewer come. */
  async skip(count: number): Promise<boolean> {
    for (let left = count; left > 0;) {
      if (await this.atEnd()) return false;
      left -= this.#drop(Math.min(this.#rest.length, left)).length;
    }
    return true;
  }

  #drop(count: number): Buffer {
    const piece = this.#rest.subarray(0, count);
    this.#rest = this.#rest.subarray(count);
    this.offset += count;
    return piece;
  }
}
