import type { Member, OpenArchive } from './reader.js';
import { storedRanges } from '../format/tar-encode.js';

/**
 * A part of a member's content, holes filled. What lies behind its end is left out.
 * @param offset In the content, as the part's length: both in bytes.
 */
export async function readMemberRange(
  archive: OpenArchive,
  { entry, dataOffset }: Pick<Member, 'entry' | 'dataOffset'>,
  offset: number,
  length: number,
): Promise<Buffer> {
  const part = Buffer.alloc(Math.max(0, Math.min(length, entry.size - offset)));
  let at = dataOffset;
  for (const range of storedRanges(entry)) {
    const start = Math.max(range.offset, offset);
    const end = Math.min(range.offset + range.length, offset + part.length);
    if (start < end) await archive.handle.read(part, start - offset, end - start, at + start - range.offset);
    at += range.length;
  }
  return part;
}
