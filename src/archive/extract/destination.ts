import { closeSync, constants, fchmodSync, fchownSync, fstatSync, openSync, type Stats } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import { lstatAt, NO_LINKS, pathOfFd, reopenDirectory } from '../../openat.js';
import { removeAt, removeBelow, removeEmptied } from '../../removal.js';
import { isOurs, openSafely, UnsafePathError } from '../../safe-path.js';
import { ArchiveError } from '../format/archive-error.js';
import { walkMembers, type OpenArchive, type TarRange } from '../read/reader.js';
import { relativeName } from '../read/refuse-unsafe.js';

/**
 * Where a tree goes. A path is the caller's, and means what it means to the caller: symbolic links in it are followed.
 * One that was `recorded` in an archive is walked with care: it ends in no link, and leads only through directories of
 * root's, the caller's, or the user's who owns the tree, as src/safe-path.ts has it. `fd`: an empty directory that is
 * held open by the caller, `path` names it in errors.
 */
export type Destination = string | { recorded: string } | { path: string; fd: number };

/** One that is opened here. */
export type NamedDestination = Exclude<Destination, { fd: number }>;

export function isHeldOpen(destination: Destination): destination is { path: string; fd: number } {
  return typeof destination === 'object' && 'fd' in destination;
}

export function pathOf(destination: Destination): string {
  return resolve(
    typeof destination === 'string' ? destination : 'path' in destination ? destination.path : destination.recorded,
  );
}

/** The directory below which all is made. For a tree that is a single file: its parent, and the file's name. */
export interface OpenDestination {
  path: string;
  fd: number;
  /** In latin1. */
  fileName: string | undefined;
  /** The directory was made for this extraction, under this name in a directory that is held open, too. */
  made: { parentFd: number; name: Buffer } | undefined;
  /** The owner and mode of a directory that was there. */
  before: Stats | undefined;
}

interface Parent {
  fd: number;
  /** Who can put things there, beside root and the caller. */
  owner: number | undefined;
}

/** The tree's root, of which the first member tells. */
export interface RootEntry {
  isDirectory: boolean;
  uid: number | undefined;
}

/** Of a tar, or a part of one, whose root is called `root`; undefined where the first member does not tell. */
export async function rootEntryOf(archive: OpenArchive, range: TarRange, root: string): Promise<RootEntry | undefined> {
  for await (const { entry } of walkMembers(archive, range)) {
    if (relativeName(entry.name, root) !== '') return undefined;
    return { isDirectory: entry.type === 'directory', uid: entry.uid };
  }
  return undefined;
}

/** @throws ArchiveError DESTINATION_EXISTS, DESTINATION_NOT_EMPTY, DESTINATION_MISSING, DESTINATION_UNSAFE */
export async function openDestination(destination: Destination, root: RootEntry): Promise<OpenDestination> {
  if (isHeldOpen(destination)) {
    const { path, fd } = destination;
    const own = reopenDirectory(fd);
    return closedOnError([own], () =>
      takenOver({ path, fd: own, fileName: undefined, made: undefined, before: undefined }),
    );
  }
  const isRecorded = typeof destination === 'object';
  const path = pathOf(destination);
  const parent = await openParent(path, isRecorded, root.uid);
  if (!root.isDirectory)
    return { path, fd: parent.fd, fileName: lastName(path).toString('latin1'), made: undefined, before: undefined };
  return closedOnError([parent.fd], () => openDirectory(path, parent, isRecorded));
}

export function closeDestination({ fd, made }: OpenDestination): void {
  closeSync(fd);
  if (made !== undefined) closeSync(made.parentFd);
}

export async function openParent(path: string, isRecorded: boolean, ownedBy: number | undefined): Promise<Parent> {
  try {
    if (isRecorded) return await openSafely(dirname(path), ownedBy);
    return { fd: openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY), owner: undefined };
  } catch (cause) {
    throw unusable(path, cause);
  }
}

/** An empty directory, made when it is not there. Closes the parent where it is not needed any more. */
async function openDirectory(path: string, parent: Parent, isRecorded: boolean): Promise<OpenDestination> {
  const last = lastName(path);
  const flags = constants.O_RDONLY | constants.O_DIRECTORY;
  let fd: number;
  let made: OpenDestination['made'];
  try {
    if (makeDirectory(parent.fd, last)) made = { parentFd: parent.fd, name: last };
    if (made === undefined && !isRecorded) fd = openSync(path, flags);
    else fd = native().openat2(parent.fd, last, flags | constants.O_NOFOLLOW, 0, NO_LINKS);
  } catch (cause) {
    if (isRecorded && lstatAt(parent.fd, last)?.isSymbolicLink() === true)
      throw unsafe(path, 'it is a symbolic link', cause);
    throw unusable(path, cause);
  }
  return closedOnError([fd], async () => {
    const { uid } = fstatSync(fd);
    // Who can write to the parent could have put another directory there meanwhile.
    const isStrange = made === undefined ? isRecorded && !isOwn(uid, parent.owner) : uid !== process.geteuid?.();
    if (isStrange) throw unsafe(path, `it belongs to uid ${uid}`);
    const target = await takenOver({ path, fd, fileName: undefined, made, before: undefined });
    if (made === undefined) closeSync(parent.fd);
    return target;
  });
}

/** A directory of the parent's owner, or where the parent is nobody else's, of root's or the caller's own. */
export function isOwn(uid: number, parentOwner: number | undefined): boolean {
  return parentOwner === undefined ? isOurs(uid) : uid === parentOwner;
}

/**
 * An empty directory that only we can enter from now on: until its own entry gives it its owner and mode, which is last
 * of all, nobody else puts anything in the way.
 */
async function takenOver(target: OpenDestination): Promise<OpenDestination> {
  const { path, fd, made } = target;
  const before = fstatSync(fd);
  // Through the descriptor: what is looked at is what will be written to.
  if (!(await isEmptyDirectory(pathOfFd(fd)))) throw new ArchiveError('DESTINATION_NOT_EMPTY', { path });
  const isPrivate = before.uid === process.geteuid?.() && (before.mode & 0o077) === 0;
  if (isPrivate) return { ...target, before: made === undefined ? before : undefined };
  fchownSync(fd, process.geteuid?.() ?? 0, process.getegid?.() ?? 0);
  fchmodSync(fd, 0o700);
  if (await isEmptyDirectory(pathOfFd(fd))) return { ...target, before: made === undefined ? before : undefined };
  putBack(fd, before);
  throw new ArchiveError('DESTINATION_NOT_EMPTY', { path });
}

export async function isEmptyDirectory(path: string): Promise<boolean> {
  const dir = await opendir(path, { encoding: 'latin1' });
  return (await dir.read().finally(() => dir.close())) === null;
}

/** The same of a name in a directory, which is no link. */
export async function isEmptyAt(parentFd: number, name: Buffer): Promise<boolean> {
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
  const fd = native().openat2(parentFd, name, flags, 0, NO_LINKS);
  try {
    return await isEmptyDirectory(pathOfFd(fd));
  } finally {
    closeSync(fd);
  }
}

function putBack(fd: number, { uid, gid, mode }: Stats): void {
  fchownSync(fd, uid, gid);
  fchmodSync(fd, mode & 0o7777);
}

/** Removal for later: the descriptors are closed by then, so the directory is known again by its inode. */
export function remover(target: OpenDestination): () => Promise<void> {
  const { path, fileName, made, before } = target;
  const known = fstatSync(target.fd, { bigint: true });
  const parent = made === undefined ? undefined : fstatSync(made.parentFd, { bigint: true });
  const openKnown = (at: string, { dev, ino }: { dev: bigint; ino: bigint }): number | undefined => {
    const fd = openSync(at, constants.O_RDONLY | constants.O_DIRECTORY);
    const now = fstatSync(fd, { bigint: true });
    if (now.dev === dev && now.ino === ino) return fd;
    closeSync(fd);
    return undefined;
  };
  return async () => {
    const fd = openKnown(fileName === undefined ? path : dirname(path), known);
    if (fd === undefined) return;
    const parentFd = parent === undefined ? undefined : openKnown(dirname(path), parent);
    const again: OpenDestination = {
      path,
      fd,
      fileName,
      before,
      made: made === undefined || parentFd === undefined ? undefined : { parentFd, name: made.name },
    };
    await removeTarget(again).finally(() => closeDestination(again));
  };
}

/** Removes what was extracted. */
export async function removeTarget({ fd, fileName, made, before }: OpenDestination): Promise<void> {
  if (fileName !== undefined) return removeAt(fd, Buffer.from(fileName, 'latin1'));
  await removeBelow(fd);
  if (before !== undefined) putBack(fd, before);
  if (made !== undefined) removeEmptied(made.parentFd, made.name, fd);
}

export function lastName(path: string): Buffer {
  return Buffer.from(basename(path) || '.');
}

/** False when something has that name already. */
function makeDirectory(parentFd: number, last: Buffer): boolean {
  try {
    native().mkdirat(parentFd, last, 0o700);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  }
}

function unusable(path: string, cause: unknown): ArchiveError {
  if (cause instanceof ArchiveError) return cause;
  if (cause instanceof UnsafePathError) return unsafe(path, cause.message, cause);
  if (errnoOf(cause) === 'ENOTDIR')
    return new ArchiveError('DESTINATION_EXISTS', { path, what: 'it is not a directory' });
  return new ArchiveError('DESTINATION_MISSING', { path, cause });
}

export function unsafe(path: string, what: string, cause?: unknown): ArchiveError {
  return new ArchiveError('DESTINATION_UNSAFE', { path, what, cause });
}

async function closedOnError<T>(fds: readonly number[], act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    for (const fd of fds) closeSync(fd);
    throw error;
  }
}
