import { pipeline } from 'node:stream/promises';
import type { Duplex } from 'node:stream';
import * as zlib from 'node:zlib';
import { errnoOf } from '../../errors.js';
import { hasZstd, isWindowTooLarge, zstdDecompressor } from '../file/zstd.js';
import { ArchiveError } from '../format/archive-error.js';
import type { Compression } from './begin.js';

export interface Unpacking {
  /** How errors name the archive. */
  path: string;
  /** A few kilobytes can unpack to terabytes: how many bytes may come. */
  mostBytes: number;
  signal: AbortSignal | undefined;
}

/**
 * The bytes of the tar, decompressed where they are not plain.
 * @throws ArchiveError ARCHIVE_TOO_BIG, ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED (what the decompressor says),
 * ARCHIVE_UNSUPPORTED; what `from` throws; the signal's reason
 */
export async function* unpack(
  { path, mostBytes, signal }: Unpacking,
  from: AsyncIterable<Buffer>,
  compression: Compression,
): AsyncGenerator<Buffer, void, void> {
  if (compression === 'none') {
    yield* within(mostBytes, path, 'has', from);
    return;
  }
  const decompressor = decompressorFor(path, compression);
  const fed = pipeline(from, decompressor, signal === undefined ? {} : { signal });
  // What fails there fails the decompressor, too, and is seen below.
  fed.catch(() => undefined);
  try {
    yield* within(mostBytes, path, 'unpacks to', decompressor as AsyncIterable<Buffer>);
    await fed;
  } catch (cause) {
    signal?.throwIfAborted();
    throw unpackError(cause, path, compression);
  } finally {
    decompressor.destroy();
  }
}

async function* within(
  mostBytes: number,
  archivePath: string,
  what: string,
  chunks: AsyncIterable<Buffer>,
): AsyncGenerator<Buffer, void, void> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (!(bytes <= mostBytes)) throw new ArchiveError('ARCHIVE_TOO_BIG', { archivePath, bytes: mostBytes, what });
    yield chunk;
  }
}

function unpackError(cause: unknown, archivePath: string, compression: Compression): unknown {
  if (cause instanceof ArchiveError) return cause;
  const { code = '' } = cause as NodeJS.ErrnoException;
  if (code === 'Z_BUF_ERROR') return new ArchiveError('ARCHIVE_TRUNCATED', { archivePath, cause });
  if (isWindowTooLarge(cause as Error))
    return new ArchiveError('ARCHIVE_UNSUPPORTED', {
      archivePath,
      what: 'zstd with a window of more than 64 MiB',
      cause,
    });
  if (errnoOf(cause) !== undefined && !/^Z_|^ZSTD_/.test(code))
    return new ArchiveError('ARCHIVE_UNREADABLE', { archivePath, what: 'while it was unpacked', cause });
  return new ArchiveError('ARCHIVE_DAMAGED', { archivePath, what: `its ${compression} stream`, cause });
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
