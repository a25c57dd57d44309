/** The one reading of an archive that a restore needs. */
import {
  ImageStaging,
  verifyArchive,
  type OpenArchive,
  type VerifiedArchive,
  type VerifyOptions,
} from '../../archive/index.js';
import type { PrivateDir } from '../base/private-dir.js';
import type { StagedTrees } from './staged-trees.js';
import { IMAGES_IN_ARCHIVE, readImages, type UnpackedImages } from './unpack-images.js';

/**
 * Verifies the archive; in the same pass the images are put into a directory of ours, and file trees beside their
 * destinations.
 * @throws ArchiveError, CriuError CRIU_IMAGE
 */
export async function verifyAndUnpack(
  archive: OpenArchive,
  privateDir: Pick<PrivateDir, 'makeInner'>,
  trees: StagedTrees,
  options: Omit<VerifyOptions, 'place' | 'ahead'>,
): Promise<{ verified: VerifiedArchive; images: () => Promise<UnpackedImages> }> {
  const directory = privateDir.makeInner('images');
  using staging = new ImageStaging(archive, IMAGES_IN_ARCHIVE, directory);
  const verified = await verifyArchive(archive, { ...options, ...trees.verifyOptions(staging.place) });
  await staging.finish();
  await trees.finish(options.signal);
  return { verified, images: () => readImages(directory) };
}
