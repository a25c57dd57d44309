import { closeSync, constants, type Dirent } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import { ContainerError } from '../model/container-error.js';
import type { OverlayRoot } from './mounts.js';
import { inTurns, type OverlayDiff } from './overlay.js';

const O_PATH = 0o10000000;
const RESOLVE = 0x02 | 0x04 | 0x08; // RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH

/**
 * The paths, absolute in the container, that must be removed after the difference was put on top of the image:
 * what was deleted, and what an opaque directory hides and does not have itself.
 *
 * The layers below never change, so this can be asked after the thaw. A path that a deeper layer had lost already may
 * be listed too: removing what is not there does no harm, since it is not in the container's tree either.
 * @throws ContainerError OVERLAY_UNSUPPORTED for a path that is not UTF-8: JSON cannot carry it
 */
export async function deletedPaths(
  diff: OverlayDiff,
  livePaths: () => Iterable<Buffer>,
  { upperDir, lowerDirs }: OverlayRoot,
): Promise<string[]> {
  const deleted = new Set<string>();
  for (const directory of diff.opaque) {
    for (const lower of lowerDirs) await collectHidden(lower, directory, diff, deleted);
  }
  // What lies in the upper directory is there, but for its marks of what does not.
  if (deleted.size > 0) for await (const name of inTurns(livePaths())) deleted.delete(name);
  for (const name of diff.deleted) deleted.add(name);
  return [...deleted].sort().map((name) => `/${utf8(name, upperDir)}`);
}

/** All that a layer has in a hidden directory, except for directories that the upper directory has, too. */
async function collectHidden(lower: string, directory: string, diff: OverlayDiff, hidden: Set<string>): Promise<void> {
  for (const child of await entriesOf(lower, directory)) {
    const name = directory === '' ? latin1(child) : `${directory}/${latin1(child)}`;
    const mark = diff.at(name);
    if (mark === undefined || mark === 'deleted') hidden.add(name);
    // An opaque one is collected on its own.
    else if (mark === 'directory' && child.isDirectory()) await collectHidden(lower, name, diff, hidden);
  }
}

/**
 * A link in a layer, at or above the directory, leads nowhere that the overlay has merged: it could lead out of the
 * layer.
 */
async function entriesOf(lower: string, directory: string): Promise<Dirent<Buffer>[]> {
  const layer = await open(lower, O_PATH | constants.O_DIRECTORY);
  try {
    const path = Buffer.from(directory === '' ? '.' : directory, 'latin1');
    const fd = native().openat2(layer.fd, path, constants.O_RDONLY | constants.O_DIRECTORY, 0, RESOLVE);
    try {
      return await readdir(`/proc/self/fd/${fd}`, { withFileTypes: true, encoding: 'buffer' });
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    // Most new directories are marked opaque, and no layer has them.
    if (['ENOENT', 'ENOTDIR', 'ELOOP'].includes(errnoOf(error) ?? '')) return [];
    throw error;
  } finally {
    await layer.close();
  }
}

function latin1(entry: Dirent<Buffer>): string {
  return entry.name.toString('latin1');
}

function utf8(name: string, upperDir: string): string {
  const text = Buffer.from(name, 'latin1').toString('utf8');
  if (Buffer.from(text).toString('latin1') === name) return text;
  throw new ContainerError('OVERLAY_UNSUPPORTED', {
    upperDir,
    name: JSON.stringify(text),
    feature: 'a deleted name that is not UTF-8',
  });
}
