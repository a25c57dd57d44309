import { pipeline } from 'node:stream/promises';
import { PassThrough, Writable, type Duplex } from 'node:stream';
import * as zlib from 'node:zlib';
import { ArchiveError } from '../format/archive-error.js';
import type { StagingFile } from './staging-file.js';
import { writeWhole } from './write-whole.js';
import { hasZstd, zstdCompressor } from './zstd.js';

export type OutputCompression = 'gzip' | 'zstd';

/** Read from the staging file, and handed on, this much at a time. */
const CHUNK_BYTES = 1024 * 1024;

/** Fast rather than small: the default level takes four times as long for a tenth less. */
const GZIP_LEVEL = 1;

/** A stream that compresses, in libuv's threads or in a process of its own. */
export function compressor(compression: OutputCompression | undefined): Duplex {
  if (compression === undefined) return new PassThrough({ highWaterMark: CHUNK_BYTES });
  if (compression === 'gzip') return zlib.createGzip({ level: GZIP_LEVEL, chunkSize: 256 * 1024 });
  return zstdCompressor();
}

/** @throws ArchiveError OUTPUT_FAILED where nothing here can compress so: to be known before the work, not after it */
export function checkCompression(compression: OutputCompression | undefined, path: string): void {
  if (compression !== 'zstd' || hasZstd()) return;
  throw new ArchiveError('OUTPUT_FAILED', {
    path,
    what: `Node.js ${process.versions.node} has no zstd, and the program zstd is not installed; install it, or choose gzip`,
  });
}

/** Sends the archive to a stream, as fast as that takes it, and ends the stream. Returns the bytes that it got. */
export async function send(
  file: StagingFile,
  through: Duplex,
  to: Writable,
  options: { signal?: AbortSignal | undefined; onRead?: (bytes: number) => void },
): Promise<number> {
  let sent = 0;
  const source = file.handle.createReadStream({ start: 0, autoClose: false, highWaterMark: CHUNK_BYTES });
  source.on('data', (chunk) => options.onRead?.(chunk.length));
  through.on('data', (chunk: Buffer) => (sent += chunk.length));
  await pipeline(source, through, to, options.signal === undefined ? {} : { signal: options.signal });
  return sent;
}

/** The same to a stream of the caller's, such as stdout. @throws ArchiveError OUTPUT_FAILED when its reader goes away */
export async function sendToReader(...[file, through, to, options]: Parameters<typeof send>): Promise<number> {
  try {
    return await send(file, through, to, options);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EPIPE' && code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
    throw new ArchiveError('OUTPUT_FAILED', {
      path: to === process.stdout ? 'stdout' : 'the stream',
      what: 'its reader closed it before the end',
      cause: error,
    });
  }
}

/** The staging file as a stream. Not the handle's own: with `autoClose: false` that never says that it is done. */
export function writableOf(file: StagingFile): Writable {
  let offset = 0;
  const write = async (chunk: Buffer): Promise<void> => {
    await writeWhole(file.handle, chunk, offset);
    offset += chunk.length;
  };
  return new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      write(chunk).then(() => done(), done);
    },
  });
}
