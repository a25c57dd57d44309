import { constants } from 'node:fs';
import { mkdir, open, opendir, type FileHandle } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { errnoOf } from '../../errors.js';
import { removeAt, removeBelow, removeEmptied } from '../../removal.js';
import { ArchiveError } from '../format/archive-error.js';

/** The directory below which all is made. For a tree that is a single file: its parent, and the file's name. */
export interface Target {
  path: string;
  handle: FileHandle;
  /** The directory was made for this extraction. */
  made: boolean;
  /** In latin1. */
  fileName: string | undefined;
}

/** An empty directory, made when it is not there. */
export async function openDirectory(path: string): Promise<Target> {
  let made = true;
  try {
    await mkdir(path, 0o700);
  } catch (cause) {
    if (errnoOf(cause) !== 'EEXIST') throw new ArchiveError('DESTINATION_MISSING', { path, cause });
    made = false;
  }
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (cause) {
    if (errnoOf(cause) === 'ENOTDIR')
      throw new ArchiveError('DESTINATION_EXISTS', { path, what: 'it is not a directory' });
    throw new ArchiveError('DESTINATION_MISSING', { path, cause });
  }
  try {
    // Through the descriptor: what is looked at is what will be written to.
    const dir = await opendir(`/proc/self/fd/${handle.fd}`, { encoding: 'latin1' });
    const first = await dir.read().finally(() => dir.close());
    if (first !== null) throw new ArchiveError('DESTINATION_NOT_EMPTY', { path });
    return { path, handle, made, fileName: undefined };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** For a tree that is a single file: nothing is made yet. */
export async function openParentOf(path: string): Promise<Target> {
  try {
    const handle = await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
    return { path, handle, made: false, fileName: Buffer.from(basename(path)).toString('latin1') };
  } catch (cause) {
    throw new ArchiveError('DESTINATION_MISSING', { path, cause });
  }
}

/** Removal for later: the descriptor is closed by then, so the directory is known again by its inode. */
export async function remover(target: Target): Promise<() => Promise<void>> {
  const { dev, ino } = await target.handle.stat({ bigint: true });
  const { path, fileName, made } = target;
  return async () => {
    const handle = await open(
      fileName === undefined ? path : dirname(path),
      constants.O_RDONLY | constants.O_DIRECTORY,
    );
    try {
      const now = await handle.stat({ bigint: true });
      if (now.dev === dev && now.ino === ino) await removeTarget({ path, handle, made, fileName });
    } finally {
      await handle.close();
    }
  };
}

/** Removes what was extracted. */
export async function removeTarget({ path, handle, made, fileName }: Target): Promise<void> {
  if (fileName !== undefined) return removeAt(handle.fd, Buffer.from(fileName, 'latin1'));
  await removeBelow(handle.fd);
  if (!made) return;
  const parent = await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    removeEmptied(parent.fd, Buffer.from(basename(path)), handle.fd);
  } finally {
    await parent.close();
  }
}
