import type { FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { ArchiveError } from '../format/archive-error.js';
import type { Entry } from '../format/entry.js';
import { TarParser } from '../format/tar-decode.js';
import { padding } from '../format/tar-encode.js';
import { begin, type Compression } from './begin.js';
import { contentOf, truncated } from './content.js';
import { nameOfSource, type ArchiveSource } from './source.js';
import { spool } from './spool.js';

/** An archive that is open for reading at any offset. A compressed one has been unpacked to a file without a name. */
export interface OpenArchive extends AsyncDisposable {
  /** As the caller named it. */
  readonly path: string;
  readonly handle: FileHandle;
  /** Size of the uncompressed tar. */
  readonly bytes: number;
  readonly compression: Compression;
  close(): Promise<void>;
}

export interface OpenArchiveOptions {
  /** How errors name it. Default: its path, or what it is. */
  name?: string | undefined;
  /**
   * Where a compressed archive is unpacked, and a stream is kept: needs its whole size. Default: the system's temporary
   * directory.
   */
  tmpDir?: string | undefined;
  /**
   * How much a compressed archive may unpack to, and a stream may bring, in bytes. Default: nine tenths of what is free
   * in `tmpDir`.
   */
  maxUnpackedBytes?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** One member, found by its headers. */
export interface Member {
  entry: Entry;
  /** Where its first header begins. */
  headerOffset: number;
  /** Where its data begins; a sparse file's ranges follow each other. */
  dataOffset: number;
  storedBytes: number;
}

/** A part of an archive that is a tar: the archive itself, or a member. */
export interface TarRange {
  start: number;
  end: number;
}

/**
 * Opens an archive. Nothing of it is checked yet. An open file stays the caller's, and is read at its offsets from 0
 * on; what is no regular file, and a stream, is copied to a file without a name first.
 * @throws ArchiveError ARCHIVE_UNREADABLE, ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED (what the decompressor says),
 * ARCHIVE_UNSUPPORTED, ARCHIVE_TOO_BIG
 */
export async function openArchive(source: ArchiveSource, options: OpenArchiveOptions = {}): Promise<OpenArchive> {
  const { tmpDir = tmpdir(), maxUnpackedBytes, name: path = nameOfSource(source), signal } = options;
  const begun = await begin(source, path, signal);
  if (begun.kind === 'file') return opened(path, begun.handle, begun.bytes, 'none', begun.close);
  try {
    const handle = await spool({ path, tmpDir, maxUnpackedBytes, signal }, begun);
    return opened(path, handle, (await handle.stat()).size, begun.compression);
  } finally {
    await begun.close();
  }
}

/** `close`: default, its handle. */
export function opened(
  path: string,
  handle: FileHandle,
  bytes: number,
  compression: Compression,
  close: () => Promise<void> = () => handle.close(),
): OpenArchive {
  return { path, handle, bytes, compression, close, [Symbol.asyncDispose]: close };
}

/**
 * The members in order, by random access: no data is read.
 * @param options `refuseGlobals`: see `TarParserOptions`.
 * @throws ArchiveError NOT_AN_ARCHIVE, ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED, ARCHIVE_UNSUPPORTED
 */
export async function* walkMembers(
  archive: OpenArchive,
  range: TarRange = { start: 0, end: archive.bytes },
  options: { refuseGlobals?: boolean } = {},
): AsyncGenerator<Member, void, void> {
  const bytes = new ByteReader(archive, range, 64 * 1024);
  const parser = new TarParser({ archivePath: archive.path, ...options });
  for (;;) {
    const headerOffset = bytes.offset;
    // A tree's range ends where another's members begin; and some tars of others lack their end.
    if (headerOffset === range.end) return;
    const parsed = await nextHeader(parser, bytes);
    if (parsed.kind === 'end') return;
    const { entry, storedBytes } = parsed;
    const dataOffset = bytes.offset;
    if (dataOffset + storedBytes + padding(storedBytes) > range.end)
      throw truncated(archive.path, range.end, entry.name);
    yield { entry, headerOffset, dataOffset, storedBytes };
    bytes.skip(storedBytes + padding(storedBytes));
  }
}

/** Reads headers until a member or the end is complete. `onBytes` sees every block read. */
export async function nextHeader(
  parser: TarParser,
  bytes: ByteReader,
  onBytes?: (block: Buffer) => void,
): Promise<NonNullable<ReturnType<TarParser['push']>>> {
  for (;;) {
    const { need } = parser;
    if (bytes.buffered < need && !(await bytes.fill(need))) throw truncated(bytes.archive.path, bytes.range.end);
    const at = bytes.offset;
    const block = bytes.take(need);
    onBytes?.(block);
    const parsed = parser.push(block, at);
    if (parsed !== undefined) return parsed;
  }
}

/**
 * A member's content, holes filled.
 * @throws ArchiveError MEMBER_TOO_BIG when it is longer than maxBytes, ARCHIVE_TRUNCATED
 */
export async function readMember(
  archive: OpenArchive,
  member: Pick<Member, 'entry' | 'dataOffset'>,
  maxBytes: number,
): Promise<Buffer> {
  const { entry, dataOffset } = member;
  let at = dataOffset;
  return contentOf(archive.path, entry, maxBytes, async (range) => {
    if ((await readFully(archive.handle, range, at)) < range.length)
      throw truncated(archive.path, archive.bytes, entry.name);
    at += range.length;
  });
}

async function readFully(handle: FileHandle, into: Buffer, position: number): Promise<number> {
  let done = 0;
  while (done < into.length) {
    const { bytesRead } = await handle.read(into, done, into.length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/** A range of the archive in order through one buffer. What `take` returns is good until the next `fill`. */
export class ByteReader {
  #buffer: Buffer;
  #from = 0;
  #to = 0;
  /** Archive offset of the next byte that `take` returns. */
  offset: number;

  constructor(
    readonly archive: OpenArchive,
    readonly range: TarRange,
    readonly chunkBytes: number,
  ) {
    this.#buffer = Buffer.allocUnsafeSlow(chunkBytes);
    this.offset = range.start;
  }

  get buffered(): number {
    return this.#to - this.#from;
  }

  /** Buffers at least `count` bytes, more when it can. False when the range ends before. */
  async fill(count: number): Promise<boolean> {
    const { buffered } = this;
    if (this.offset + count > this.range.end) return false;
    const grown = count > this.#buffer.length ? Buffer.allocUnsafeSlow(count) : this.#buffer;
    this.#buffer.copy(grown, 0, this.#from, this.#to);
    this.#buffer = grown;
    this.#from = 0;
    this.#to = buffered;
    const wanted = Math.min(grown.length, this.range.end - this.offset);
    try {
      this.#to += await readFully(this.archive.handle, grown.subarray(buffered, wanted), this.offset + buffered);
    } catch (cause) {
      throw new ArchiveError('ARCHIVE_UNREADABLE', {
        archivePath: this.archive.path,
        offset: this.offset + buffered,
        cause,
      });
    }
    return this.buffered >= count;
  }

  take(count: number): Buffer {
    const bytes = this.#buffer.subarray(this.#from, this.#from + count);
    this.#from += count;
    this.offset += count;
    return bytes;
  }

  skip(count: number): void {
    this.offset += count;
    if (count < this.buffered) this.#from += count;
    else this.#from = this.#to = 0;
  }
}
