import { ArchiveError } from '../format/archive-error.js';
import { printable } from '../format/byte-text.js';
import type { Entry } from '../format/entry.js';
import { BLOCK_BYTES, storedRanges } from '../format/tar-encode.js';

export function truncated(archivePath: string, offset: number, name?: Buffer): ArchiveError {
  return new ArchiveError('ARCHIVE_TRUNCATED', {
    archivePath,
    offset,
    ...(offset < BLOCK_BYTES ? { what: 'it ends within its first header, if it is an archive at all' } : {}),
    ...(name === undefined ? {} : { member: printable(name) }),
  });
}

/**
 * The same of whatever has the bytes: `fill` puts the next ones into each range.
 * @throws ArchiveError MEMBER_TOO_BIG when it is longer than maxBytes; what `fill` throws
 */
export async function contentOf(
  archivePath: string,
  entry: Entry,
  maxBytes: number,
  fill: (range: Buffer) => Promise<void>,
): Promise<Buffer> {
  if (entry.size > maxBytes)
    throw new ArchiveError('MEMBER_TOO_BIG', { archivePath, member: printable(entry.name), bytes: maxBytes });
  const content = Buffer.alloc(entry.size);
  for (const { offset, length } of storedRanges(entry)) await fill(content.subarray(offset, offset + length));
  return content;
}
