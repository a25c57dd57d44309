/** Where the file trees of a copy go: the places that they had, which have to be there to be mounted on. */
import { closeSync, constants, lstatSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { pathOf, type Destination } from '../../archive/index.js';
import { native } from '../../native.js';
import { NO_LINKS } from '../../openat.js';
import { openSafely } from '../../safe-path.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import type { Guardian } from '../guardian/guardian.js';
import type { PreparedTree } from '../prepare/prepared-directory.js';
import type { Undo } from '../restore/undo.js';

export interface MountPoint {
  /** What the tree is called among the unpacked ones. */
  entry: string;
  path: string;
}

/**
 * The place of each tree. One that does not exist is made, empty; what is there is not touched.
 * @param trees Where they are unpacked.
 * @param undo Told how what was made is removed again.
 * @throws CheckpointError CLONE_PLACE
 */
export async function mountPoints(
  {
    trees,
    prepared,
    destinations,
  }: {
    trees: string;
    prepared: readonly PreparedTree[];
    destinations: readonly (readonly [name: string, destination: Destination])[];
  },
  guardian: Guardian,
  undo: Undo,
): Promise<MountPoint[]> {
  const points: MountPoint[] = [];
  for (const [name, destination] of destinations) {
    const entry = prepared.find((tree) => tree.name === name)?.entry;
    if (entry === undefined) continue;
    const path = pathOf(destination);
    const { uid, isDirectory } = kindOf(join(trees, entry));
    const found = statSync(path, { throwIfNoEntry: false });
    if (found === undefined) await make(path, isDirectory, uid, guardian, undo);
    else if (found.isDirectory() !== isDirectory)
      throw new CheckpointError('CLONE_PLACE', {
        path,
        what: isDirectory ? 'it is no directory, as the tree is' : 'it is a directory, and the tree is a single file',
      });
    points.push({ entry, path });
  }
  // A tree within another has to be bound after it.
  return points.sort((a, b) => a.path.length - b.path.length);
}

function kindOf(path: string): { uid: number; isDirectory: boolean } {
  const stat = lstatSync(path);
  return { uid: stat.uid, isDirectory: stat.isDirectory() };
}

async function make(path: string, isDirectory: boolean, uid: number, guardian: Guardian, undo: Undo): Promise<void> {
  try {
    const parent = await openSafely(dirname(path), uid);
    const name = Buffer.from(basename(path));
    try {
      guardian.willMakeNew(path);
      if (isDirectory) native().mkdirat(parent.fd, name, 0o755);
      else
        closeSync(
          native().openat2(parent.fd, name, constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY, 0o600, NO_LINKS),
        );
    } finally {
      closeSync(parent.fd);
    }
  } catch (cause) {
    throw new CheckpointError('CLONE_PLACE', { path, what: 'it does not exist, and cannot be made', cause });
  }
  undo.push(() => Promise.resolve(isDirectory ? rmdirSync(path) : rmSync(path)));
}
