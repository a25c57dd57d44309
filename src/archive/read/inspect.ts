import { MANIFEST_JSON, MAX_MANIFEST_BYTES, parseManifest, type Manifest } from '../format/manifest.js';
import { readMember, walkMembers, type Member, type OpenArchive } from './reader.js';
import { takeTurns } from '../../yield-to-loop.js';

export interface InspectOptions {
  signal?: AbortSignal | undefined;
  /** Called with each member in order. What it keeps of them is the memory that this takes. */
  onMember?: ((member: Member) => void) | undefined;
}

/**
 * Walks over the members and reads the manifest, without reading, and so without checking, any other data. Nothing that
 * it says of itself is proven. Undefined for an archive that is not ours.
 * @throws ArchiveError NOT_AN_ARCHIVE, ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED, FORMAT_TOO_NEW
 */
export async function inspectArchive(
  archive: OpenArchive,
  { signal, onMember }: InspectOptions = {},
): Promise<Manifest | undefined> {
  const name = Buffer.from(MANIFEST_JSON);
  let manifest: Manifest | undefined;
  let turn = performance.now();
  for await (const member of walkMembers(archive)) {
    onMember?.(member);
    if (member.entry.name.equals(name) && member.entry.type === 'file')
      manifest = parseManifest(await readMember(archive, member, MAX_MANIFEST_BYTES), archive.path);
    turn = await takeTurns(turn, signal);
  }
  return manifest;
}
