import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ArchiveError, readVerifiedMember, type VerifiedArchive } from '../../archive/index.js';
import { readDumpedLocks, type DumpedLock } from '../../criu/index.js';
import { members } from './documents.js';

const IMAGE = 'filelocks.img';
/** A lock takes some 30 bytes: more than a million of them. */
const MAX_BYTES = 64 * 1024 * 1024;

/**
 * The locks of the images in an archive. Podman unpacks the images itself: this takes out what it needs.
 * @param privateDir A private directory.
 * @throws ArchiveError, CriuError CRIU_IMAGE
 */
export async function archivedLocks(verified: VerifiedArchive, privateDir: string): Promise<DumpedLock[]> {
  let image: Buffer;
  try {
    image = await readVerifiedMember(verified, `${members.images}/${IMAGE}`, MAX_BYTES);
  } catch (error) {
    if (error instanceof ArchiveError && error.code === 'MEMBER_MISSING') return [];
    throw error;
  }
  const dir = join(privateDir, 'locks');
  await mkdir(dir, { mode: 0o700 });
  await writeFile(join(dir, IMAGE), image, { mode: 0o600 });
  return readDumpedLocks(dir);
}
