import { closeSync, fstatSync, lstatSync } from 'node:fs';
import { resolve } from 'node:path';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import { ArchiveError } from '../format/archive-error.js';
import { Beneath, describeFd } from './openat-dir.js';
import { printable } from '../format/byte-text.js';
import { checkTar, relativeName, type CheckOptions } from '../read/refuse-unsafe.js';
import {
  closeDestination,
  openDestination,
  remover,
  removeTarget,
  type Destination,
  type RootEntry,
  type Target,
} from './destination.js';
import { Replacement, type ReplaceOptions } from './replacement.js';
import type { Entry } from '../format/entry.js';
import { ROOT_NAME } from '../format/names.js';
import { readMember, walkMembers, type Member, type OpenArchive, type TarRange } from '../read/reader.js';
import { takeTurns } from '../../yield-to-loop.js';
import { placeOf } from '../read/places.js';
import type { VerifiedArchive } from '../read/verify.js';

export interface ExtractOptions {
  /** The tree's root. A directory may exist when it is empty, a single file must not; the parent must exist. */
  destination: Destination;
  /**
   * Device nodes give whoever may open them the device itself. Default 'create', as a container's tree may need them.
   */
  devices?: 'create' | 'refuse' | undefined;
  /** Leaves what was extracted before a failure. Default: all of it is removed again. */
  keepPartial?: boolean | undefined;
  /**
   * Told of the destination's path before anything is made under it, where nothing is; and, of a directory, which one
   * it is before anything is put into it: for whoever removes it when we die. Not of a destination that the caller
   * holds open.
   */
  onDestination?:
    | { willMake: (path: string) => void; opened: (path: string, id: { dev: bigint; ino: bigint }) => Promise<void> }
    | undefined;
  /** See `CheckOptions`. */
  skip?: CheckOptions['skip'];
  /**
   * The destination may hold other files: the tree is made beside it then, hidden, until `replacement` is told to take
   * the place. Not for a destination that the caller holds open. Default: it must be empty.
   */
  replace?: ReplaceOptions | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: ExtractProgress) => void) | undefined;
}

export interface ExtractProgress {
  /** Entries that are done, the tree's root included. */
  entries: number;
  /** Data copied, in bytes; holes do not count. */
  bytes: number;
}

export interface ExtractedTree extends ExtractProgress {
  /**
   * Takes the extraction back: removes the tree, with all that was put into it since, and the root when it was not
   * there before.
   */
  remove(): Promise<void>;
  /** With `replace`, where there was something to replace. */
  replacement: Replacement | undefined;
}

/** A batch of small files is copied by one trip to a thread. */
const BATCH_FILES = 64;
const BATCH_BYTES = 8 * 1024 * 1024;
const MAX_BATCHES = 2;

/**
 * Extracts one file tree of a verified archive: names, modes, owners, nanosecond times, links, devices,
 * attributes and holes. Its whole list of names and links is checked before anything is written, and
 * nothing is ever written outside the destination. On failure, what was made is removed again.
 * @param tree The tree's name in the archive.
 * @throws ArchiveError MEMBER_MISSING, DESTINATION_EXISTS, DESTINATION_NOT_EMPTY, DESTINATION_MISSING,
 * DESTINATION_UNSAFE,
 *   DESTINATION_FULL, DESTINATION_MOUNTED, UNSAFE_PATH, UNSAFE_LINK, EXTRACT_FAILED (which path, with the system's error as cause)
 */
export async function extractTree(
  options: ExtractOptions & { verified: VerifiedArchive; tree: string | Buffer },
): Promise<ExtractedTree> {
  const { verified } = options;
  const name = Buffer.from(options.tree);
  const place = verified.trees.find((candidate) => candidate.name.equals(name));
  if (place === undefined)
    throw new ArchiveError('MEMBER_MISSING', {
      archivePath: verified.archive.path,
      member: printable(name),
      what: 'no such tree',
    });
  const root = place.record.layout === 'nested' ? ROOT_NAME : place.name.toString('latin1');
  return extractTar({ ...options, archive: verified.archive, range: place.range, root });
}

/**
 * Extracts a directory that is not a listed tree, with all below it: CRIU's images are in `checkpoint`.
 * Promises and errors are those of `extractTree`.
 * @param options `images`: refuses what is not a regular file or directory, with UNSAFE_MEMBER. See `CheckOptions`.
 */
export async function extractMembers(
  options: ExtractOptions & { verified: VerifiedArchive; prefix: string; images?: boolean },
): Promise<ExtractedTree> {
  const { verified, prefix } = options;
  return extractTar({ ...options, archive: verified.archive, range: rangeOf(verified, prefix), root: prefix });
}

/**
 * Refuses what `extractMembers` would refuse before it makes anything, for whom the archive is extracted by somebody
 * else.
 * @throws ArchiveError MEMBER_MISSING, UNSAFE_PATH, UNSAFE_LINK, UNSAFE_MEMBER
 */
export async function checkMembers(
  options: { verified: VerifiedArchive; prefix: string } & CheckOptions,
): Promise<void> {
  const { verified, prefix } = options;
  await checkTar(verified.archive, rangeOf(verified, prefix), prefix, options);
}

function rangeOf({ archive, members }: VerifiedArchive, prefix: string): TarRange {
  const place = members.get(prefix);
  if (place === undefined) throw new ArchiveError('MEMBER_MISSING', { archivePath: archive.path, member: prefix });
  return { start: place.headerOffset, end: place.end };
}

/**
 * The content of one regular member.
 * @throws ArchiveError MEMBER_MISSING, MEMBER_TOO_BIG
 */
export async function readVerifiedMember(verified: VerifiedArchive, name: string, maxBytes: number): Promise<Buffer> {
  const { archive, members } = verified;
  const place = placeOf(members, name);
  const wanted = Buffer.from(name);
  if (place !== undefined) {
    for await (const member of walkMembers(archive, { start: place.headerOffset, end: place.end })) {
      if (!member.entry.name.equals(wanted)) continue;
      if (member.entry.type !== 'file') break;
      return readMember(archive, member, maxBytes);
    }
  }
  throw new ArchiveError('MEMBER_MISSING', { archivePath: archive.path, member: printable(wanted) });
}

/**
 * Extracts the members of a tar, or of a part of one, that lie at or below `root` ('.' for all). What the names
 * and links say is checked first; data and headers must have been verified, or be trusted for other reasons.
 */
export async function extractTar(
  options: ExtractOptions & { archive: OpenArchive; range: TarRange; root: string; images?: boolean | undefined },
): Promise<ExtractedTree> {
  const { archive, range, root, signal } = options;
  signal?.throwIfAborted();
  const rootType = await checkTar(archive, range, root, options);
  const rootEntry = { isDirectory: rootType === 'directory', uid: await ownerOfRoot(archive, range, root) };
  const path = pathOf(options.destination);
  const replacement = await openReplacement(options, rootEntry);
  if (replacement === undefined && !isThere(path)) options.onDestination?.willMake(path);
  const target = replacement?.target ?? (await openDestination(options.destination, rootEntry));
  const extraction = new Extraction(archive, target, options);
  try {
    if (rootEntry.isDirectory && replacement === undefined)
      await options.onDestination?.opened(path, fstatSync(target.fd, { bigint: true }));
    await extraction.run(range, root);
    const remove = replacement === undefined ? remover(target) : () => replacement.remove();
    return { ...extraction.progress, remove, replacement };
  } catch (error) {
    await replacement?.remove().catch(() => undefined);
    if (replacement === undefined && options.keepPartial !== true && extraction.begun)
      await removeTarget(target).catch(() => undefined);
    throw error;
  } finally {
    extraction.close();
    closeDestination(target);
  }
}

async function openReplacement(
  { destination, replace }: ExtractOptions,
  root: RootEntry,
): Promise<Replacement | undefined> {
  if (replace === undefined || (typeof destination === 'object' && 'fd' in destination)) return undefined;
  return Replacement.open(destination, root, replace);
}

function pathOf(destination: Destination): string {
  return resolve(
    typeof destination === 'string' ? destination : 'path' in destination ? destination.path : destination.recorded,
  );
}

/** Links are not followed. */
function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Of the tree's root; undefined when no member tells. */
async function ownerOfRoot(archive: OpenArchive, range: TarRange, root: string): Promise<number | undefined> {
  for await (const { entry } of walkMembers(archive, range))
    return relativeName(entry.name, root) === '' ? entry.uid : undefined;
  return undefined;
}

interface PendingFile {
  fd: number;
  entry: Entry;
  dataOffset: number;
  storedBytes: number;
}

class Extraction {
  readonly progress: ExtractProgress = { entries: 0, bytes: 0 };
  readonly #archive: OpenArchive;
  readonly #target: Target;
  readonly #options: ExtractOptions;
  readonly #beneath: Beneath;
  readonly #directories: { name: string; entry: Entry }[] = [];
  readonly #running = new Set<Promise<void>>();
  #batch: PendingFile[] = [];
  #batchBytes = 0;
  /** Something may have been made that is ours to remove. */
  begun = false;

  constructor(archive: OpenArchive, target: Target, options: ExtractOptions) {
    this.#archive = archive;
    this.#target = target;
    this.#options = options;
    this.begun = target.fileName === undefined;
    this.#beneath = new Beneath(target.fd);
  }

  async run(range: TarRange, root: string): Promise<void> {
    try {
      let turn = performance.now();
      for await (const member of walkMembers(this.#archive, range)) {
        if (this.#options.skip?.(member.entry) === true) continue;
        const name = relativeName(member.entry.name, root) as string;
        const linkname = member.entry.linkname === undefined ? undefined : relativeName(member.entry.linkname, root);
        this.#attempt(member.entry, () => this.#make(this.#target.fileName ?? name, member, linkname));
        if (this.#batch.length >= BATCH_FILES || this.#batchBytes >= BATCH_BYTES) await this.#startBatch();
        turn = await takeTurns(turn, this.#options.signal);
      }
      await this.#startBatch();
      await Promise.all(this.#running);
    } finally {
      // Whatever happened: no thread may write to a descriptor that is closed, or to a tree that is being removed.
      await Promise.allSettled(this.#running);
      for (const { fd } of this.#batch.splice(0)) closeSync(fd);
    }
    await this.#finishDirectories();
    this.#options.onProgress?.({ ...this.progress });
  }

  #make(name: string, member: Member, linkname: string | undefined): void {
    const { entry, dataOffset, storedBytes } = member;
    const { type } = entry;
    if (type === 'file') {
      this.#batch.push({ fd: this.#beneath.createFile(name), entry, dataOffset, storedBytes });
      this.begun = true;
      this.#batchBytes += storedBytes;
      return;
    }
    this.progress.entries++;
    if (type === 'directory') {
      if (name !== '') this.#beneath.createDirectory(name);
      this.#directories.push({ name, entry });
    } else if (type === 'hardlink') {
      this.#beneath.createHardlink(name, linkname as string);
    } else {
      if (type === 'symlink') this.#beneath.createSymlink(name, entry.linkname as Buffer);
      else this.#beneath.createNode(name, entry);
      this.begun = true;
      this.#beneath.finishUnopened(name, entry);
    }
  }

  /** Sends the gathered files to a thread; waits only when enough are on their way already. */
  async #startBatch(): Promise<void> {
    const files = this.#batch;
    if (files.length === 0) return;
    while (this.#running.size >= MAX_BATCHES) await Promise.race(this.#running);
    this.#batch = [];
    this.#batchBytes = 0;
    const copy = this.#copyBatch(files);
    this.#running.add(copy);
    // A rejection stays in #running, and is met by the next race or by the last wait.
    copy.then(
      () => this.#running.delete(copy),
      () => undefined,
    );
  }

  async #copyBatch(files: PendingFile[]): Promise<void> {
    try {
      const ranges: number[] = [];
      const owners: PendingFile[] = [];
      for (const file of files) {
        const { fd, entry, storedBytes } = file;
        if (entry.data !== undefined) this.#attempt(entry, () => this.#beneath.truncate(fd, entry.size));
        let from = file.dataOffset;
        for (const { offset, length } of entry.data ?? [{ offset: 0, length: storedBytes }]) {
          if (length === 0) continue;
          ranges.push(from, fd, offset, length);
          owners.push(file);
          from += length;
        }
      }
      try {
        if (ranges.length > 0) await native().copyRanges(this.#archive.handle.fd, Float64Array.from(ranges));
      } catch (error) {
        const { range } = error as { range?: number };
        throw this.#failed(owners[range ?? 0]?.entry, error);
      }
      for (const { fd, entry, storedBytes } of files) {
        this.#attempt(entry, () => describeFd(fd, entry));
        this.progress.entries++;
        this.progress.bytes += storedBytes;
      }
      this.#options.onProgress?.({ ...this.progress });
    } finally {
      for (const { fd } of files) closeSync(fd);
    }
  }

  /** Children before parents: making a child changes its parent's time, and a mode may forbid it. */
  async #finishDirectories(): Promise<void> {
    let turn = performance.now();
    for (const { name, entry } of this.#directories.reverse()) {
      this.#attempt(entry, () => this.#beneath.finishDirectory(name, entry));
      turn = await takeTurns(turn, this.#options.signal);
    }
  }

  #attempt(entry: Entry, act: () => void): void {
    try {
      act();
    } catch (error) {
      throw this.#failed(entry, error);
    }
  }

  #failed(entry: Entry | undefined, cause: unknown): ArchiveError {
    const errno = errnoOf(cause);
    const { path, fileName } = this.#target;
    if (errno === 'EEXIST' && fileName !== undefined) return new ArchiveError('DESTINATION_EXISTS', { path });
    const facts = { archivePath: this.#archive.path, member: printable(entry?.name ?? ''), path, cause };
    return new ArchiveError(errno === 'ENOSPC' || errno === 'EDQUOT' ? 'DESTINATION_FULL' : 'EXTRACT_FAILED', facts);
  }

  close(): void {
    this.#beneath.close();
  }
}
