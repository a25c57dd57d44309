/** The beginning of every reading: what a source is, and whether it is compressed. */
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { whenAborted } from '../../when-aborted.js';
import { ArchiveError } from '../format/archive-error.js';
import { chunksOf, firstBytes, isStream, joined, untilAborted, type ArchiveSource } from './source.js';

export type Compression = 'none' | 'gzip' | 'zstd';

/** A tar that can be read at any offset. */
export interface PlainFile {
  kind: 'file';
  handle: FileHandle;
  bytes: number;
  close(): Promise<void>;
}

/** Bytes that come in order only: a stream, or what has to be decompressed. */
export interface InOrder {
  kind: 'in-order';
  chunks: AsyncIterable<Buffer>;
  compression: Compression;
  /** Lets go of the source, and does not wait for one that is silent. */
  close(): Promise<void>;
}

/**
 * Opens a source. An open file stays the caller's: `close` leaves it open.
 * @throws ArchiveError ARCHIVE_UNREADABLE, ARCHIVE_TRUNCATED (a stream that brings nothing); the signal's reason
 */
export async function begin(
  source: ArchiveSource,
  path: string,
  signal: AbortSignal | undefined,
): Promise<PlainFile | InOrder> {
  signal?.throwIfAborted();
  if (isStream(source)) return beginStream(source, path, signal);
  const handle = typeof source === 'string' ? await openPath(source) : source;
  const close = typeof source === 'string' ? () => handle.close() : () => Promise.resolve();
  try {
    const stat = await handle.stat();
    if (!stat.isFile() && typeof source !== 'string') return await beginStream(chunksOf(handle, null), path, signal);
    if (!stat.isFile()) throw new ArchiveError('ARCHIVE_UNREADABLE', { archivePath: path, what: 'not a regular file' });
    const compression = compressionOf((await handle.read(Buffer.alloc(4), 0, 4, 0)).buffer);
    if (compression === 'none') return { kind: 'file', handle, bytes: stat.size, close };
    return { kind: 'in-order', chunks: chunksOf(handle, 0), compression, close };
  } catch (error) {
    await close().catch(() => undefined);
    throw error;
  }
}

async function openPath(path: string): Promise<FileHandle> {
  try {
    // O_NONBLOCK: a FIFO of that name must not hold a thread for ever.
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (cause) {
    throw new ArchiveError('ARCHIVE_UNREADABLE', { archivePath: path, cause });
  }
}

async function beginStream(
  source: AsyncIterable<Uint8Array>,
  path: string,
  signal: AbortSignal | undefined,
): Promise<InOrder> {
  const enough = new AbortController();
  const forget = whenAborted(signal, () => enough.abort(signal?.reason));
  const chunks = untilAborted(source, path, enough.signal);
  const close = async (): Promise<void> => {
    forget();
    enough.abort();
    await chunks.return(undefined);
  };
  try {
    const head = await firstBytes(chunks, 4);
    if (head.length === 0)
      throw new ArchiveError('ARCHIVE_TRUNCATED', {
        archivePath: path,
        what: 'nothing came: the program that was to send it may have failed',
      });
    return { kind: 'in-order', chunks: joined(head, chunks), compression: compressionOf(head), close };
  } catch (error) {
    await close();
    throw error;
  }
}

function compressionOf(head: Buffer): Compression {
  if (head.length >= 2 && head.readUInt16BE(0) === 0x1f8b) return 'gzip';
  return head.length >= 4 && head.readUInt32BE(0) === 0x28b52ffd ? 'zstd' : 'none';
}
