/** The members of a tar whose bytes come in order. */
import { ArchiveError } from '../format/archive-error.js';
import { printable } from '../format/byte-text.js';
import type { Entry } from '../format/entry.js';
import { TarParser } from '../format/tar-decode.js';
import { padding } from '../format/tar-encode.js';
import { contentOf, truncated } from './content.js';

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

export interface ChunkedOptions {
  archivePath: string;
  /** How much may come, in bytes: a member that claims to go beyond it is refused before it comes. */
  mostBytes: number;
  /** Some tars of others lack their end: a source that ends between two members is whole. */
  mayLackEnd: boolean;
}

/**
 * What may follow the end of a tar: some programs fill a whole record, of up to a few mebibytes. A few kilobytes of a
 * compressed archive could otherwise keep a reader busy for hours.
 */
export const MAX_AFTER_END_BYTES = 16 << 20;

/**
 * Each is handed out when its headers have come, so what is no archive ends with its first block, not with its last.
 * @throws ArchiveError NOT_AN_ARCHIVE (no member at all, too), ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED, ARCHIVE_UNSUPPORTED,
 * ARCHIVE_TOO_BIG; what `chunks` throws
 */
export async function* membersOfChunks(
  chunks: AsyncGenerator<Buffer, void, void>,
  { archivePath, mostBytes, mayLackEnd }: ChunkedOptions,
): AsyncGenerator<MemberInTurn, void, void> {
  const bytes = new BytesInOrder(chunks);
  const parser = new TarParser({ archivePath });
  let count = 0;
  try {
    for (;;) {
      if (mayLackEnd && parser.atMember && (await bytes.atEnd())) break;
      const { need } = parser;
      const at = bytes.offset;
      const block = await bytes.take(need);
      if (block === undefined) throw truncated(archivePath, bytes.offset);
      const parsed = parser.push(block, at);
      if (parsed === undefined) continue;
      if (parsed.kind === 'end') break;
      count++;
      const { entry, storedBytes } = parsed;
      const next = bytes.offset + storedBytes + padding(storedBytes);
      if (next > mostBytes) throw tooBig(archivePath, mostBytes, entry.name);
      const fill = async (range: Buffer): Promise<void> => {
        if (!(await bytes.fill(range))) throw truncated(archivePath, bytes.offset, entry.name);
      };
      yield { entry, storedBytes, read: (maxBytes) => contentOf(archivePath, entry, maxBytes, fill) };
      if (!(await bytes.skip(next - bytes.offset))) throw truncated(archivePath, bytes.offset, entry.name);
    }
    if (count === 0) throw new ArchiveError('NOT_AN_ARCHIVE', { archivePath, what: 'it has no member' });
    await skipAfterEnd(bytes, archivePath);
  } finally {
    await chunks.return();
  }
}

/** To the source's own end, which a compressed one checks; and no program at the other end of a pipe dies of it. */
async function skipAfterEnd(bytes: BytesInOrder, archivePath: string): Promise<void> {
  const end = bytes.offset;
  while (!(await bytes.atEnd())) {
    await bytes.skip(bytes.buffered);
    if (bytes.offset - end > MAX_AFTER_END_BYTES) throw tooMuchAfterEnd(archivePath, end);
  }
}

export function tooMuchAfterEnd(archivePath: string, offset: number): ArchiveError {
  const what = `more than ${MAX_AFTER_END_BYTES} bytes follow its end`;
  return new ArchiveError('ARCHIVE_DAMAGED', { archivePath, what, offset });
}

function tooBig(archivePath: string, bytes: number, name: Buffer): ArchiveError {
  const what = `claims, for its member ${printable(name)},`;
  return new ArchiveError('ARCHIVE_TOO_BIG', { archivePath, bytes, what });
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
