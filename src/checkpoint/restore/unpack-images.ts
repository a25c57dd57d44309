import { extractMembers, type VerifiedArchive } from '../../archive/index.js';
import {
  orderUnixSockets,
  readDumpedFiles,
  readDumpedLocks,
  readPstree,
  repairTimers,
  type DumpedFile,
  type DumpedLock,
  type DumpedProcess,
} from '../../criu/index.js';
import type { PrivateDir } from '../base/private-dir.js';

/** CRIU's images in a directory of ours, and what they say of the tree. */
export interface UnpackedImages {
  path: string;
  /** The directory, held open. */
  fd: number;
  processes: readonly DumpedProcess[];
  locks: readonly DumpedLock[];
  files: readonly DumpedFile[];
}

/** The name of their directory in an archive. */
export const IMAGES_IN_ARCHIVE = 'checkpoint';

/** @throws ArchiveError, CriuError CRIU_IMAGE */
export async function unpackImages(
  verified: VerifiedArchive,
  privateDir: Pick<PrivateDir, 'makeInner'>,
  signal: AbortSignal | undefined,
): Promise<UnpackedImages> {
  const directory = privateDir.makeInner('images');
  await extractMembers({ verified, prefix: IMAGES_IN_ARCHIVE, images: true, destination: directory.path, signal });
  return readImages(directory);
}

/** Makes of unpacked images what a restore wants. @throws CriuError CRIU_IMAGE */
export async function readImages(directory: { path: string; fd: number }): Promise<UnpackedImages> {
  // New archives have it done. Older ones, and other programs', have not.
  await repairTimers(directory.path);
  await orderUnixSockets(directory.path);
  return readReadyImages(directory);
}

/** Of images that have been unpacked before. @throws CriuError CRIU_IMAGE */
export async function readReadyImages({ path, fd }: { path: string; fd: number }): Promise<UnpackedImages> {
  return {
    path,
    fd,
    processes: await readPstree(path),
    locks: await readDumpedLocks(path),
    files: await readDumpedFiles(path),
  };
}

/** Every id that the restore has to make anew. A group or session from outside the tree is not among them. */
export function idsOf(processes: readonly DumpedProcess[]): number[] {
  return [...new Set(processes.flatMap(({ pid, threads }) => [pid, ...threads]))];
}
