import { takeTurns } from '../../yield-to-loop.js';
import { Places, type MemberPlace } from './places.js';
import { walkMembers, type OpenArchive } from './reader.js';
import { padding } from '../format/tar-encode.js';

/**
 * Where the members of an archive are that may be anybody's; see `VerifiedArchive.members`. Nothing is verified.
 * @throws ArchiveError NOT_AN_ARCHIVE, ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED, ARCHIVE_UNSUPPORTED
 */
export async function locateMembers(
  archive: OpenArchive,
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<string, MemberPlace>> {
  const places = new Places();
  let turn = performance.now();
  for await (const { entry, headerOffset, dataOffset, storedBytes } of walkMembers(archive)) {
    // A directory's name of others ends with a slash, or does not.
    const name = entry.name.toString('latin1').replace(/\/$/, '');
    const end = dataOffset + storedBytes + padding(storedBytes);
    places.add(name, { type: entry.type, headerOffset, dataOffset, storedBytes, end });
    turn = await takeTurns(turn, signal);
  }
  return places.byName;
}
