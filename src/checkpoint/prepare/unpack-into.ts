import { join } from 'node:path';
import { extractTree, type VerifiedArchive } from '../../archive/index.js';
import type { PrivateDirectory } from '../../private-directory.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { unpackImages, type UnpackedImages } from '../restore/unpack-images.js';
import { TREES, type PreparedTree } from './prepared-directory.js';

export interface Unpacked {
  images: UnpackedImages;
  trees: PreparedTree[];
  /** Where the trees are. */
  path: string;
}

/**
 * Unpacks a whole checkpoint into a directory of ours: CRIU's images as a restore wants them, and each file tree under
 * a number.
 * @throws ArchiveError, CriuError CRIU_IMAGE, CheckpointError NOT_A_CHECKPOINT; the signal's reason
 */
export async function unpackInto(
  verified: VerifiedArchive,
  directory: Pick<PrivateDirectory, 'path' | 'makeInner'>,
  archivePath: string,
  signal: AbortSignal | undefined,
): Promise<Unpacked> {
  const images = await unpackImages(verified, directory, signal);
  const { path } = directory.makeInner(TREES);
  const trees: PreparedTree[] = [];
  for (const { name } of verified.manifest.trees) {
    if (typeof name !== 'string')
      throw new CheckpointError('NOT_A_CHECKPOINT', { archivePath, what: 'the name of a file tree is not UTF-8' });
    const entry = String(trees.length);
    await extractTree({ verified, tree: name, destination: join(path, entry), signal });
    trees.push({ name, entry });
  }
  return { images, trees, path };
}
