import { constants } from 'node:fs';
import { open, statfs, unlink, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import type { Duplex } from 'node:stream';
import * as zlib from 'node:zlib';
import { errnoOf } from '../../errors.js';
import { ArchiveError } from '../format/archive-error.js';
import { printable } from '../format/byte-text.js';
import type { Entry } from '../format/entry.js';
import { openNameless } from '../file/unnamed-file.js';
import { TarParser } from '../format/tar-decode.js';
import { padding } from '../format/tar-encode.js';
import { hasZstd, zstdDecompressor } from '../file/zstd.js';

export type Compression = 'none' | 'gzip' | 'zstd';

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
  /** Where a compressed archive is unpacked: needs its whole size. Default: the system's temporary directory. */
  tmpDir?: string | undefined;
  /**
   * How much a compressed archive may unpack to, in bytes. Default: nine tenths of what is free where it is unpacked.
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
 * Opens an archive. Nothing of it is checked yet.
 * @throws ArchiveError ARCHIVE_UNREADABLE, ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED (what the decompressor says),
 * ARCHIVE_UNSUPPORTED, ARCHIVE_TOO_BIG
 */
export async function openArchive(path: string, options: OpenArchiveOptions = {}): Promise<OpenArchive> {
  const { tmpDir = tmpdir(), maxUnpackedBytes, signal } = options;
  signal?.throwIfAborted();
  let handle: FileHandle;
  try {
    // O_NONBLOCK: a FIFO of that name must not hold a thread for ever.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (cause) {
    throw new ArchiveError('ARCHIVE_UNREADABLE', { archivePath: path, cause });
  }
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new ArchiveError('ARCHIVE_UNREADABLE', { archivePath: path, what: 'not a regular file' });
    const compression = await detectCompression(handle);
    if (compression === 'none') return opened(path, handle, stat.size, compression);
    const unpacked = await unpack({ path, from: handle, compression, tmpDir, maxUnpackedBytes, signal });
    await handle.close();
    return opened(path, unpacked, (await unpacked.stat()).size, compression);
  } catch (error) {
    await handle.close().catch(() => undefined);
    throw error;
  }
}

function opened(path: string, handle: FileHandle, bytes: number, compression: Compression): OpenArchive {
  const close = (): Promise<void> => handle.close();
  return { path, handle, bytes, compression, close, [Symbol.asyncDispose]: close };
}

async function detectCompression(handle: FileHandle): Promise<Compression> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(4), 0, 4, 0);
  if (bytesRead >= 2 && buffer.readUInt16BE(0) === 0x1f8b) return 'gzip';
  return bytesRead === 4 && buffer.readUInt32BE(0) === 0x28b52ffd ? 'zstd' : 'none';
}

interface Unpacking {
  path: string;
  from: FileHandle;
  compression: Exclude<Compression, 'none'>;
  tmpDir: string;
  maxUnpackedBytes: number | undefined;
  signal: AbortSignal | undefined;
}

async function unpack(unpacking: Unpacking): Promise<FileHandle> {
  const { path, from, compression, tmpDir, signal } = unpacking;
  const decompressor = decompressorFor(path, compression);
  let to: FileHandle;
  let mostBytes: number;
  try {
    mostBytes = unpacking.maxUnpackedBytes ?? (await spareBytes(tmpDir));
    to = await openUnnamed(tmpDir);
  } catch (cause) {
    throw new ArchiveError('ARCHIVE_UNREADABLE', {
      archivePath: path,
      what: `it is compressed, and cannot be unpacked in ${tmpDir}`,
      cause,
    });
  }
  try {
    // Not FileHandle's own streams: with autoClose off, which keeps the descriptors ours, a pipeline never ends.
    await pipeline(
      chunksOf(from),
      decompressor,
      (chunks: AsyncIterable<Buffer>) => writeChunks(to, within(mostBytes, path, chunks)),
      signal === undefined ? {} : { signal },
    );
    return to;
  } catch (cause) {
    await to.close().catch(() => undefined);
    signal?.throwIfAborted();
    if (cause instanceof ArchiveError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'Z_BUF_ERROR') throw new ArchiveError('ARCHIVE_TRUNCATED', { archivePath: path, cause });
    if (errnoOf(cause) === undefined || /^Z_|^ZSTD_/.test(code ?? ''))
      throw new ArchiveError('ARCHIVE_DAMAGED', { archivePath: path, what: `its ${compression} stream`, cause });
    throw new ArchiveError('ARCHIVE_UNREADABLE', {
      archivePath: path,
      what: `while it was unpacked in ${tmpDir}`,
      cause,
    });
  }
}

/** What a file system can spare: a full one would hurt others than us. */
async function spareBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return Math.floor(bavail * bsize * 0.9);
}

/** A few kilobytes can unpack to terabytes. */
async function* within(mostBytes: number, archivePath: string, chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (!(bytes <= mostBytes)) throw new ArchiveError('ARCHIVE_TOO_BIG', { archivePath, bytes: mostBytes });
    yield chunk;
  }
}

async function* chunksOf(handle: FileHandle): AsyncGenerator<Buffer> {
  for (let position = 0; ;) {
    const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(256 * 1024), 0, 256 * 1024, position);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    position += bytesRead;
  }
}

async function writeChunks(handle: FileHandle, chunks: AsyncIterable<Buffer>): Promise<void> {
  let position = 0;
  for await (const chunk of chunks) {
    for (let done = 0; done < chunk.length;) {
      const { bytesWritten } = await handle.write(chunk, done, chunk.length - done, position);
      done += bytesWritten;
      position += bytesWritten;
    }
  }
}

function decompressorFor(path: string, compression: Exclude<Compression, 'none'>): Duplex {
  if (compression === 'gzip') return zlib.createGunzip({ chunkSize: 256 * 1024 });
  if (!hasZstd())
    throw new ArchiveError('ARCHIVE_UNSUPPORTED', {
      archivePath: path,
      what: `zstd, which Node.js ${process.versions.node} cannot unpack; install the program zstd`,
    });
  return zstdDecompressor();
}

/** A file without a name, also where the file system has none: then one that has lost its name. */
async function openUnnamed(dir: string): Promise<FileHandle> {
  const nameless = await openNameless(dir);
  if (nameless !== undefined) return nameless;
  const path = join(dir, `.stillframe-${randomUUID()}`);
  const handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  await unlink(path);
  return handle;
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
    if (dataOffset + storedBytes + padding(storedBytes) > range.end) throw truncated(archive, range, entry.name);
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
    if (bytes.buffered < need && !(await bytes.fill(need))) throw truncated(bytes.archive, bytes.range);
    const at = bytes.offset;
    const block = bytes.take(need);
    onBytes?.(block);
    const parsed = parser.push(block, at);
    if (parsed !== undefined) return parsed;
  }
}

export function truncated(archive: OpenArchive, range: TarRange, name?: Buffer): ArchiveError {
  return new ArchiveError('ARCHIVE_TRUNCATED', {
    archivePath: archive.path,
    offset: range.end,
    ...(name === undefined ? {} : { member: printable(name) }),
  });
}

/**
 * A member's content, holes filled.
 * @throws ArchiveError MEMBER_TOO_BIG when it is longer than maxBytes, ARCHIVE_TRUNCATED
 */
export async function readMember(
  archive: OpenArchive,
  member: Pick<Member, 'entry' | 'dataOffset' | 'storedBytes'>,
  maxBytes: number,
): Promise<Buffer> {
  const { entry, dataOffset, storedBytes } = member;
  if (entry.size > maxBytes)
    throw new ArchiveError('MEMBER_TOO_BIG', {
      archivePath: archive.path,
      member: printable(entry.name),
      bytes: maxBytes,
    });
  const out = Buffer.alloc(entry.size);
  let at = dataOffset;
  for (const { offset, length } of entry.data ?? [{ offset: 0, length: storedBytes }]) {
    if ((await readFully(archive.handle, out.subarray(offset, offset + length), at)) < length)
      throw truncated(archive, { start: 0, end: archive.bytes }, entry.name);
    at += length;
  }
  return out;
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
