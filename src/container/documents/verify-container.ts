import {
  ArchiveError,
  checkMembers,
  inspectArchive,
  verifyArchive,
  type MemberInTurn,
  type OpenArchive,
  type VerifiedArchive,
  type VerifyOptions,
} from '../../archive/index.js';
import { ContainerError } from '../model/container-error.js';
import { members } from './documents.js';

/**
 * `verifyArchive`, and a plain word about an archive of the same format that another engine wrote: it has no hashes, so
 * that nothing could be promised of it. Its images are images of CRIU, and nothing else.
 * @throws ArchiveError, ContainerError FOREIGN_CHECKPOINT
 */
export async function verifyContainerArchive(
  archive: OpenArchive,
  options: VerifyOptions = {},
): Promise<VerifiedArchive> {
  try {
    const verified = await verifyArchive(archive, options);
    // Before anything is extracted, and for Podman, which extracts them itself.
    await checkMembers({ verified, prefix: members.images, images: true, signal: options.signal });
    return verified;
  } catch (error) {
    if (error instanceof ArchiveError && (await isForeign(archive)))
      throw new ContainerError('FOREIGN_CHECKPOINT', { archivePath: archive.path, cause: error });
    throw error;
  }
}

/** The members of a container's checkpoint, and no manifest of ours. One that cannot be read to its end is just damaged. */
async function isForeign(archive: OpenArchive): Promise<boolean> {
  const missing = new Set<string>([members.config, members.spec]);
  const onMember = ({ entry }: MemberInTurn): unknown => missing.delete(entry.name.toString('latin1'));
  try {
    return (await inspectArchive(archive, { onMember })) === undefined && missing.size === 0;
  } catch {
    return false;
  }
}
