import { randomBytes } from 'node:crypto';
import { closeSync, constants } from 'node:fs';
import { join } from 'node:path';
import {
  ArchiveError,
  describeFd,
  extractTree,
  printable,
  walkMembers,
  type Entry,
  type TreePlace,
  type VerifiedArchive,
} from '../../archive/index.js';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import { lstatAt, NO_LINKS, openDirectoryAt, RESOLVE_NO_XDEV, withFd } from '../../openat.js';
import type { PrivateDirectoryWatch } from '../../private-directory.js';
import { removeAt } from '../../removal.js';
import { takeTurns } from '../../yield-to-loop.js';
import { ContainerError } from '../model/container-error.js';
import { members, type RecordedBindMount } from './documents.js';
import { readBindMounts, readDeletedFiles, type ContainerPath } from './recorded-lists.js';
import { bytes, RootDirectory, split } from './root-directory.js';
import { isWhiteout } from './whiteouts.js';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

export interface ApplyOptions {
  verified: VerifiedArchive;
  /** The new container's root file system, with the image in it. */
  rootfs: string;
  /** The difference holds whiteouts. They are passed over: what had been deleted is in deleted.files, too. */
  whiteouts: boolean;
  /** Told of the hidden directory in the root file system, for whoever removes it when we die. */
  hidden?: PrivateDirectoryWatch | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Makes a root file system what the container's was: the difference goes on top of the image, then what had been
 * deleted is removed, and missing places for bind mounts are made.
 *
 * Nothing outside the root file system is touched, whatever links are in it or in the archive: all is done below a
 * descriptor of it, where the links of the image lead to what they lead to in the container. A file system that is
 * mounted in it is not entered.
 * @throws ArchiveError as `extractTree`, ContainerError NOT_A_CONTAINER_CHECKPOINT
 */
export async function applyRootfs(options: ApplyOptions): Promise<void> {
  // All that the archive says is read before anything is changed.
  const place = diffOf(options.verified);
  const deleted = await readDeletedFiles(options.verified);
  const mounts = await readBindMounts(options.verified);
  using root = new RootDirectory(options.rootfs);
  await new DiffApplication(options, root).run(place);
  for (const path of deleted) await remove(root, path, options);
  for (const mount of mounts) await makeMountPoint(root, mount, options);
}

/**
 * The tar is first extracted, checked and safe, into a fresh directory inside the root file system; from there its
 * entries are renamed to their places.
 */
class DiffApplication {
  readonly #options: ApplyOptions;
  readonly #root: RootDirectory;
  /** What has been renamed, and all below it. */
  readonly #moved = new Set<string>();
  /** Directories that the image has, too. */
  readonly #merged: Entry[] = [];

  constructor(options: ApplyOptions, root: RootDirectory) {
    this.#options = options;
    this.#root = root;
  }

  async run({ name, range }: TreePlace): Promise<void> {
    const { verified, rootfs, hidden, signal } = this.#options;
    const fresh = bytes(`.stillframe-${randomBytes(8).toString('hex')}`);
    const path = join(rootfs, fresh.toString());
    hidden?.willMake?.(path);
    native().mkdirat(this.#root.fd, fresh, 0o700);
    const freshFd = native().openat2(this.#root.fd, fresh, DIRECTORY, 0, NO_LINKS | RESOLVE_NO_XDEV);
    try {
      const destination = { path, fd: freshFd };
      const skip = this.#options.whiteouts ? isWhiteout : undefined;
      await extractTree({ verified, tree: name, destination, skip, signal });
      let turn = performance.now();
      for await (const { entry } of walkMembers(verified.archive, range)) {
        if (skip?.(entry) === true) continue;
        await applying(entry.name, this.#options, () => this.#place(freshFd, entry));
        turn = await takeTurns(turn, signal);
      }
      // Children first: what is put into a directory moves its mtime.
      for (const entry of this.#merged.reverse())
        await applying(entry.name, this.#options, () => this.#describe(entry));
    } finally {
      closeSync(freshFd);
      await removeAt(this.#root.fd, fresh);
      hidden?.removed?.(path);
    }
  }

  async #place(freshFd: number, entry: Entry): Promise<void> {
    const path = pathOf(entry);
    const { parent, name } = split(path);
    if (path === '') this.#merged.push(entry);
    else if (this.#moved.has(parent)) this.#moved.add(path);
    else {
      const parentFd = this.#root.makeDirectory(parent);
      const existing = lstatAt(parentFd, bytes(name));
      if (entry.type === 'directory' && existing?.isDirectory() === true) {
        this.#merged.push(entry);
        return;
      }
      if (existing !== undefined && (existing.isDirectory() || entry.type === 'directory'))
        await removeAt(parentFd, bytes(name));
      withFd(openDirectoryAt(freshFd, bytes(parent === '' ? '.' : parent)), (fromFd) => {
        native().renameat2(fromFd, bytes(name), parentFd, bytes(name), 0);
      });
      this.#moved.add(path);
    }
  }

  /** Owner, mode, attributes and time of a directory that the image had already. */
  #describe(entry: Entry): void {
    const { parent, name } = split(pathOf(entry));
    const parentFd = this.#root.makeDirectory(parent);
    const resolve = NO_LINKS | RESOLVE_NO_XDEV;
    withFd(native().openat2(parentFd, bytes(name === '' ? '.' : name), DIRECTORY, 0, resolve), (fd) => {
      describeFd(fd, entry);
    });
  }
}

/**
 * Removes what the container sees at a path. A link at its end is removed itself; one to nowhere on the way leads to
 * nothing.
 */
async function remove(root: RootDirectory, path: ContainerPath, options: ApplyOptions): Promise<void> {
  if (path === '') return;
  const { parent, name } = split(path);
  await applying(bytes(path), options, async () => {
    const parentFd = root.directory(parent);
    if (parentFd !== undefined) await removeAt(parentFd, bytes(name));
  });
}

/**
 * Makes the place for a bind mount that is missing. Where a file or a link to nowhere is in the way it is left to the
 * runtime, which says what is wrong with the mount.
 */
function makeMountPoint(
  root: RootDirectory,
  { path, file_type: type, permissions }: RecordedBindMount & { path: ContainerPath },
  options: ApplyOptions,
): Promise<void> {
  return applying(bytes(path), options, () => {
    if (path === '' || root.has(path)) return;
    const { parent, name } = split(path);
    try {
      const parentFd = root.makeDirectory(parent);
      if (type === 'directory') native().mkdirat(parentFd, bytes(name), permissions);
      else {
        const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
        closeSync(native().openat2(parentFd, bytes(name), flags, permissions, NO_LINKS));
      }
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
  });
}

/** Says which path of the container could not be made what it was, and what was in the way. */
async function applying(
  path: Buffer,
  { verified, rootfs }: ApplyOptions,
  act: () => void | Promise<void>,
): Promise<void> {
  try {
    await act();
  } catch (cause) {
    const errno = errnoOf(cause);
    if (errno === undefined) throw cause;
    const facts = { archivePath: verified.archive.path, member: printable(path), path: rootfs, cause };
    if (errno === 'ENOSPC' || errno === 'EDQUOT') throw new ArchiveError('DESTINATION_FULL', facts);
    const what = OBSTACLES[errno];
    throw new ArchiveError('EXTRACT_FAILED', what === undefined ? facts : { ...facts, what });
  }
}

const OBSTACLES: Readonly<Record<string, string>> = {
  EXDEV: 'a file system is mounted there: unmount it',
  EBUSY: 'a file system is mounted there: unmount it',
  ENAMETOOLONG: 'its path is longer than the 4,095 bytes that the kernel takes',
  EEXIST: 'a file, or a link to nowhere, stands where a directory has to be',
};

function diffOf({ trees, archive }: VerifiedArchive): TreePlace {
  const place = trees.find((tree) => tree.name.toString() === members.rootfsDiff);
  if (place !== undefined) return place;
  throw new ContainerError('NOT_A_CONTAINER_CHECKPOINT', {
    archivePath: archive.path,
    what: `it has no ${members.rootfsDiff}`,
  });
}

/** The path of an entry relative to the root, '' for the root itself. */
function pathOf({ name }: Entry): string {
  const path = name.toString('latin1');
  return path === '.' ? '' : path;
}
