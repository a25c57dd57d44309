import { createHash } from 'node:crypto';
import { ArchiveError } from '../format/archive-error.js';
import { printable } from '../format/byte-text.js';
import { checksumLine, MEMBERS_SHA256 } from '../format/manifest.js';
import { ByteReader, walkMembers, type OpenArchive, type TarRange } from './reader.js';
import { takeTurns } from '../../yield-to-loop.js';

const CHUNK_BYTES = 256 * 1024;

/**
 * The error for a list of hashes that is not the one it ought to be: names the member whose line is the first that is
 * wrong. Reads all data a second time, since remembering every hash for this would take memory in every archive that is
 * right.
 * @param members Where the listed members are.
 * @param list Where the list's own data is.
 */
export async function firstDifference(
  archive: OpenArchive,
  members: TarRange,
  list: TarRange,
  signal: AbortSignal | undefined,
): Promise<ArchiveError> {
  const damaged = (member: string, what: string): ArchiveError =>
    new ArchiveError('ARCHIVE_DAMAGED', { archivePath: archive.path, member, what });
  const lines = new ByteReader(archive, list, CHUNK_BYTES);
  let turn = performance.now();
  for await (const { entry, dataOffset, storedBytes } of walkMembers(archive, members)) {
    if (entry.type !== 'file') continue;
    const digest = await hashOf(archive, { start: dataOffset, end: dataOffset + storedBytes }, signal);
    const line = checksumLine(digest, entry.name);
    if (lines.buffered < line.length && !(await lines.fill(line.length)))
      return damaged(MEMBERS_SHA256, 'it ends before it lists all members');
    if (!lines.take(line.length).equals(line))
      return damaged(printable(entry.name), `its data does not have the SHA-256 that ${MEMBERS_SHA256} lists`);
    turn = await takeTurns(turn, signal);
  }
  return damaged(MEMBERS_SHA256, 'it lists members that are not there');
}

async function hashOf(archive: OpenArchive, range: TarRange, signal: AbortSignal | undefined): Promise<Buffer> {
  const hash = createHash('sha256');
  const bytes = new ByteReader(archive, range, Math.min(CHUNK_BYTES, Math.max(range.end - range.start, 1)));
  while (bytes.offset < range.end) {
    signal?.throwIfAborted();
    if (!(await bytes.fill(1))) break;
    hash.update(bytes.take(bytes.buffered));
  }
  return hash.digest();
}
