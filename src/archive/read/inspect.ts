import { ArchiveError } from '../format/archive-error.js';
import { MANIFEST_JSON, MAX_MANIFEST_BYTES, parseManifest, type Manifest } from '../format/manifest.js';
import type { MemberInTurn } from './chunked-members.js';
import { membersOfFile } from './in-order.js';
import type { OpenArchive } from './reader.js';
import { takeTurns } from '../../yield-to-loop.js';

export interface InspectOptions {
  signal?: AbortSignal | undefined;
  /** Called with each member in order, and awaited. What it keeps of them is the memory that this takes. */
  onMember?: ((member: MemberInTurn) => unknown) | undefined;
}

/**
 * Walks over the members and reads the manifest, without checking any other data. Nothing that it says of itself is
 * proven. Undefined for an archive that is not ours.
 * @throws ArchiveError NOT_AN_ARCHIVE, ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED, FORMAT_TOO_NEW
 */
export async function inspectMembers(
  members: AsyncIterable<MemberInTurn>,
  archivePath: string,
  { signal, onMember }: InspectOptions = {},
): Promise<Manifest | undefined> {
  const name = Buffer.from(MANIFEST_JSON);
  let manifest: Manifest | undefined;
  let count = 0;
  let turn = performance.now();
  for await (const member of members) {
    count++;
    await onMember?.(member);
    if (member.entry.name.equals(name) && member.entry.type === 'file')
      manifest = parseManifest(await member.read(MAX_MANIFEST_BYTES), archivePath);
    turn = await takeTurns(turn, signal);
  }
  if (count === 0) throw new ArchiveError('NOT_AN_ARCHIVE', { archivePath, what: 'it has no member' });
  return manifest;
}

/** The same of an archive that can be read at any offset: its data is not read. */
export function inspectArchive(archive: OpenArchive, options: InspectOptions = {}): Promise<Manifest | undefined> {
  return inspectMembers(membersOfFile(archive), archive.path, options);
}
