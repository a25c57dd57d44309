import { constants, type Stats } from 'node:fs';
import { lstat, mkdir, mkdtemp, open, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  ArchiveError,
  extractTree,
  readVerifiedMember,
  walkMembers,
  type Entry,
  type VerifiedArchive,
} from '../../archive/index.js';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import { ContainerError } from '../model/container-error.js';
import { members, type RecordedBindMount } from './documents.js';

const MAX_DOCUMENT_BYTES = 64 * 1024 * 1024;

export interface ApplyOptions {
  verified: VerifiedArchive;
  /** The new container's root file system, with the image in it. */
  rootfs: string;
  signal?: AbortSignal | undefined;
}

/**
 * Makes a root file system what the container's was: the difference goes on top of the image, then what had been
 * deleted is removed, and missing places for bind mounts are made.
 * @throws ArchiveError as `extractTree`, ContainerError NOT_A_CONTAINER_CHECKPOINT
 */
export async function applyRootfs(options: ApplyOptions): Promise<void> {
  await applyDiff(options);
  for (const path of await readList<string>(options, members.deleted, (item) => typeof item === 'string'))
    await removeBeneath(options.rootfs, path);
  for (const mount of await readList<RecordedBindMount>(options, members.bindMounts, isBindMountRecord))
    await makeBeneath(options.rootfs, mount);
}

/**
 * The tar is first extracted, checked and safe, into a fresh directory inside the root file system; from there its
 * entries are renamed to their places. No link of the image is followed: each directory on the way has been seen to be one.
 */
async function applyDiff({ verified, rootfs, signal }: ApplyOptions): Promise<void> {
  const place = verified.trees.find((tree) => tree.name.toString() === members.rootfsDiff);
  if (place === undefined)
    throw new ContainerError('NOT_A_CONTAINER_CHECKPOINT', {
      archivePath: verified.archive.path,
      what: `it has no ${members.rootfsDiff}`,
    });
  const fresh = await mkdtemp(join(rootfs, '.stillframe-'));
  try {
    await extractTree({ verified, tree: place.name, destination: fresh, signal });
    const moved = new Set<string>();
    const merged: Entry[] = [];
    for await (const { entry } of walkMembers(verified.archive, place.range)) {
      const name = entry.name.toString('latin1');
      const [from, to] = [below(fresh, name), below(rootfs, name)];
      if (moved.has(dirname(name))) {
        moved.add(name);
        continue;
      }
      const existing = await lstatOptional(to);
      if (entry.type === 'directory' && existing?.isDirectory() === true) {
        merged.push(entry);
        continue;
      }
      if (existing !== undefined && (existing.isDirectory() || entry.type === 'directory'))
        await rm(to, { recursive: true });
      await rename(from, to);
      moved.add(name);
    }
    // Children first: what is put into a directory moves its mtime.
    for (const entry of merged.reverse()) await describeDirectory(below(rootfs, entry.name.toString('latin1')), entry);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

/** Owner, mode, attributes and time of a directory that the image had already. */
async function describeDirectory(path: Buffer, { uid, gid, mode, xattrs = [], mtimeNs }: Entry): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    await handle.chown(uid, gid);
    await handle.chmod(mode);
    for (const { name, value } of xattrs) native().fsetxattr(handle.fd, name, value);
    const seconds = mtimeNs / 1_000_000_000n - (mtimeNs % 1_000_000_000n < 0n ? 1n : 0n);
    native().utimensat(handle.fd, Buffer.from('.'), Number(seconds), Number(mtimeNs - seconds * 1_000_000_000n), 0);
  } finally {
    await handle.close();
  }
}

/** Removes a path of the container, if the way to it leads through directories only. */
async function removeBeneath(rootfs: string, path: string): Promise<void> {
  const place = await placeBeneath(rootfs, path);
  if (place !== undefined) await rm(place, { recursive: true, force: true });
}

/** Makes the place for a bind mount that is missing; a link on the way is the image's own, and left to the runtime. */
async function makeBeneath(
  rootfs: string,
  { destination, file_type: type, permissions }: RecordedBindMount,
): Promise<void> {
  const parts = partsOf(destination);
  for (let depth = 1; depth <= parts.length; depth++) {
    const path = join(rootfs, ...parts.slice(0, depth));
    const existing = await lstatOptional(path);
    if (existing !== undefined && !existing.isDirectory()) return;
    if (existing !== undefined) continue;
    if (depth === parts.length && type === 'file') await writeFile(path, '', { mode: permissions, flag: 'wx' });
    else await mkdir(path, { mode: depth === parts.length ? permissions : 0o755 });
  }
}

async function placeBeneath(rootfs: string, path: string): Promise<string | undefined> {
  const parts = partsOf(path);
  if (parts.length === 0) return undefined;
  for (let depth = 1; depth < parts.length; depth++) {
    if ((await lstatOptional(join(rootfs, ...parts.slice(0, depth))))?.isDirectory() !== true) return undefined;
  }
  return join(rootfs, ...parts);
}

function partsOf(path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..') || path.includes('\0'))
    throw new ArchiveError('UNSAFE_PATH', { archivePath: '', member: path, what: "it has '..' in it" });
  return parts;
}

/** A JSON list that is a member, empty when there is none. */
async function readList<T>({ verified }: ApplyOptions, name: string, isItem: (item: unknown) => boolean): Promise<T[]> {
  if (!verified.members.has(name)) return [];
  const wrong = (cause?: unknown): ContainerError =>
    new ContainerError('NOT_A_CONTAINER_CHECKPOINT', {
      archivePath: verified.archive.path,
      what: `its ${name} is not the list it should be`,
      cause,
    });
  let list: unknown;
  try {
    list = JSON.parse((await readVerifiedMember(verified, name, MAX_DOCUMENT_BYTES)).toString());
  } catch (cause) {
    throw wrong(cause);
  }
  if (!Array.isArray(list) || !list.every(isItem)) throw wrong();
  return list as T[];
}

function isBindMountRecord(item: unknown): boolean {
  const record = item as Partial<RecordedBindMount> | null;
  return (
    typeof record?.destination === 'string' &&
    (record.file_type === 'file' || record.file_type === 'directory') &&
    Number.isSafeInteger(record.permissions)
  );
}

function below(directory: string, name: string): Buffer {
  return name === '.'
    ? Buffer.from(directory)
    : Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(name, 'latin1')]);
}

async function lstatOptional(path: string | Buffer): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}
