/** Where an archive comes from. */
import { readlinkSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { pathOfFd } from '../../openat.js';
import { whenAborted } from '../../when-aborted.js';
import { ArchiveError } from '../format/archive-error.js';

/** A path, an open file, or what brings its bytes in order, such as a stream. */
export type ArchiveSource = string | FileHandle | AsyncIterable<Uint8Array>;

export function isStream(source: ArchiveSource): source is AsyncIterable<Uint8Array> {
  return typeof source === 'object' && Symbol.asyncIterator in source;
}

/** Whether it is one at all: it may come from a program without types. */
export function isSource(source: unknown): source is ArchiveSource {
  if (typeof source === 'string') return source !== '' && !source.includes('\0');
  if (typeof source !== 'object' || source === null) return false;
  return Symbol.asyncIterator in source || ('fd' in source && 'stat' in source);
}

export function nameOfSource(source: ArchiveSource): string {
  if (typeof source === 'string') return source;
  if (isStream(source)) return '(a stream)';
  try {
    return readlinkSync(pathOfFd(source.fd));
  } catch {
    return '(an open file)';
  }
}

/** The bytes of an open file: from this position on, or from where it is (null), as of a pipe. */
export async function* chunksOf(handle: FileHandle, position: number | null): AsyncGenerator<Buffer> {
  for (;;) {
    const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(256 * 1024), 0, 256 * 1024, position);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    if (position !== null) position += bytesRead;
  }
}

/**
 * The bytes of a stream, whose own failures become the archive's. Ended early it lets go of the source, and never waits
 * for one that is silent.
 * @throws ArchiveError ARCHIVE_UNREADABLE; the signal's reason
 */
export async function* untilAborted(
  source: AsyncIterable<Uint8Array>,
  archivePath: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer, void, void> {
  const iterator = source[Symbol.asyncIterator]();
  let abort!: (reason: unknown) => void;
  const aborted = new Promise<never>((_, reject) => (abort = reject));
  aborted.catch(() => undefined);
  const forget = whenAborted(signal, () => abort(signal?.reason));
  try {
    for (;;) {
      const { done, value } = await Promise.race([iterator.next(), aborted]);
      if (done === true) return;
      if (!(value instanceof Uint8Array)) throw new TypeError('it gives no bytes, but something else');
      yield Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    }
  } catch (cause) {
    signal?.throwIfAborted();
    throw new ArchiveError('ARCHIVE_UNREADABLE', { archivePath, what: 'while it was received', cause });
  } finally {
    forget();
    if ('destroy' in source && typeof source.destroy === 'function') source.destroy();
    else void iterator.return?.()?.catch(() => undefined);
  }
}

/** As many as were asked for, or more; fewer only at the end. */
export async function firstBytes(chunks: AsyncIterator<Buffer>, count: number): Promise<Buffer> {
  let head: Buffer = Buffer.alloc(0);
  while (head.length < count) {
    const { done, value } = await chunks.next();
    if (done === true) break;
    head = Buffer.concat([head, value]);
  }
  return head;
}

export async function* joined(head: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield head;
  yield* rest;
}
