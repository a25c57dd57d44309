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

/** @throws ArchiveError, CriuError CRIU_IMAGE */
export async function unpackImages(
  verified: VerifiedArchive,
  privateDir: Pick<PrivateDir, 'makeInner'>,
  signal: AbortSignal | undefined,
): Promise<UnpackedImages> {
  const { path, fd } = privateDir.makeInner('images');
  await extractMembers({ verified, prefix: 'checkpoint', images: true, destination: path, signal });
  // New archives have it done. Older ones, and other programs', have not.
  await repairTimers(path);
  await orderUnixSockets(path);
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
