import { closeSync, constants, openSync } from 'node:fs';
import { mayBeRegular, type DumpedFile } from '../../criu/index.js';
import { errnoOf } from '../../errors.js';
import type { MountPoint } from './mount-points.js';

/**
 * Makes the files that the tree writes the copy's own before anything opens them. Of a file that is mapped for reading
 * by one task and written by another, an overlay would go on to show the first its prepared content.
 * Source: Documentation/filesystems/overlayfs.rst, "Non-standard behavior", Linux v6.12.
 * @param root Where the copy's root directory is seen from here.
 */
export function ownWrites(files: readonly DumpedFile[], places: readonly MountPoint[], root: string): void {
  for (const file of files) {
    const { path, flags, remap } = file;
    const isWritten = (flags & (constants.O_WRONLY | constants.O_RDWR)) !== 0;
    if (!mayBeRegular(file) || !isWritten || remap !== undefined || !places.some((place) => isIn(path, place.path)))
      continue;
    try {
      closeSync(openSync(Buffer.concat([Buffer.from(root), path]), constants.O_RDWR | constants.O_NONBLOCK));
    } catch (error) {
      // CRIU says what it cannot open.
      if (errnoOf(error) === 'ENOSPC' || errnoOf(error) === 'EDQUOT') throw error;
    }
  }
}

function isIn(path: Buffer, directory: string): boolean {
  const start = Buffer.from(directory);
  return path.subarray(0, start.length).equals(start) && (path.length === start.length || path[start.length] === 0x2f);
}
