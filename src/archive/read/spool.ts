/** What cannot be read at any offset becomes a file that can be, and that nobody else can open: one without a name. */
import { constants } from 'node:fs';
import { open, statfs, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import { PassThrough, type Duplex } from 'node:stream';
import * as zlib from 'node:zlib';
import { errnoOf } from '../../errors.js';
import { openNameless } from '../file/unnamed-file.js';
import { writeWhole } from '../file/write-whole.js';
import { hasZstd, isWindowTooLarge, zstdDecompressor } from '../file/zstd.js';
import { ArchiveError } from '../format/archive-error.js';

export type Compression = 'none' | 'gzip' | 'zstd';

export interface Spooling {
  /** How errors name the archive. */
  path: string;
  tmpDir: string;
  maxUnpackedBytes: number | undefined;
  signal: AbortSignal | undefined;
}

/** Unpacks on the way. @throws ArchiveError, as openArchive; the signal's reason */
export async function spool(
  spooling: Spooling,
  from: AsyncIterable<Buffer>,
  compression: Compression,
): Promise<FileHandle> {
  const { path, tmpDir, signal } = spooling;
  const isPacked = compression !== 'none';
  const decompressor = isPacked ? decompressorFor(path, compression) : new PassThrough();
  let to: FileHandle;
  let mostBytes: number;
  try {
    mostBytes = spooling.maxUnpackedBytes ?? (await spareBytes(tmpDir));
    to = await openUnnamed(tmpDir);
  } catch (cause) {
    const what = isPacked
      ? `it is compressed, and cannot be unpacked in ${tmpDir}`
      : `it is a stream, and cannot be kept in ${tmpDir}`;
    throw new ArchiveError('ARCHIVE_UNREADABLE', { archivePath: path, what, cause });
  }
  try {
    // Not FileHandle's own streams: with autoClose off, which keeps the descriptors ours, a pipeline never ends.
    await pipeline(
      from,
      decompressor,
      (chunks: AsyncIterable<Buffer>) => writeChunks(to, within(mostBytes, path, isPacked, chunks)),
      signal === undefined ? {} : { signal },
    );
    return to;
  } catch (cause) {
    await to.close().catch(() => undefined);
    signal?.throwIfAborted();
    if (cause instanceof ArchiveError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'Z_BUF_ERROR') throw new ArchiveError('ARCHIVE_TRUNCATED', { archivePath: path, cause });
    if (isWindowTooLarge(cause as Error))
      throw new ArchiveError('ARCHIVE_UNSUPPORTED', {
        archivePath: path,
        what: 'zstd with a window of more than 64 MiB',
        cause,
      });
    if (errnoOf(cause) === undefined || /^Z_|^ZSTD_/.test(code ?? ''))
      throw new ArchiveError('ARCHIVE_DAMAGED', { archivePath: path, what: `its ${compression} stream`, cause });
    const what = `while it was ${isPacked ? 'unpacked' : 'written to a file'} in ${tmpDir}`;
    throw new ArchiveError('ARCHIVE_UNREADABLE', { archivePath: path, what, cause });
  }
}

/** What a file system can spare: a full one would hurt others than us. */
async function spareBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return Math.floor(bavail * bsize * 0.9);
}

/** A few kilobytes can unpack to terabytes. */
async function* within(
  mostBytes: number,
  archivePath: string,
  isPacked: boolean,
  chunks: AsyncIterable<Buffer>,
): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (!(bytes <= mostBytes))
      throw new ArchiveError('ARCHIVE_TOO_BIG', {
        archivePath,
        bytes: mostBytes,
        ...(isPacked ? {} : { what: 'has' }),
      });
    yield chunk;
  }
}

async function writeChunks(handle: FileHandle, chunks: AsyncIterable<Buffer>): Promise<void> {
  let position = 0;
  for await (const chunk of chunks) {
    await writeWhole(handle, chunk, position);
    position += chunk.length;
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
