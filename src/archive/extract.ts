import { closeSync, constants } from 'node:fs';
import { mkdir, open, opendir, rmdir, type FileHandle } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { errnoOf } from '../errors.js';
import { native } from '../native.js';
import { ArchiveError } from './archive-error.js';
import { Beneath } from './beneath.js';
import { printable } from './bytes.js';
import type { Entry, EntryType } from './entry.js';
import { NameTable, ROOT_NAME, unsafeName } from './names.js';
import { readMember, walkMembers, type Member, type OpenArchive, type TarRange } from './reader.js';
import type { VerifiedArchive } from './verify.js';

export interface ExtractOptions {
  /**
   * The tree's root. A directory may exist when it is empty, a single file must not; the parent must exist.
   * Symbolic links in this path itself are followed.
   */
  destination: string;
  /** Device nodes give whoever may open them the device itself. Default 'create', as a container's tree may need them. */
  devices?: 'create' | 'refuse';
  /** Leaves what was extracted before a failure. Default: all of it is removed again. */
  keepPartial?: boolean;
  signal?: AbortSignal;
  onProgress?: (progress: ExtractProgress) => void;
}

export interface ExtractProgress {
  entries: number;
  /** Data copied, in bytes; holes do not count. */
  bytes: number;
}

/** A batch of small files is copied by one trip to a thread. */
const BATCH_FILES = 64;
const BATCH_BYTES = 8 * 1024 * 1024;
const MAX_BATCHES = 2;

/** How long the event loop is held before others get their turn. */
const SLICE_MS = 2;

/**
 * Extracts one file tree of a verified archive: names, modes, owners, nanosecond times, links, devices,
 * attributes and holes. Its whole list of names and links is checked before anything is written, and
 * nothing is ever written outside the destination. On failure, what was made is removed again.
 * @param tree The tree's name in the archive.
 * @throws ArchiveError MEMBER_MISSING, DESTINATION_EXISTS, DESTINATION_NOT_EMPTY, DESTINATION_MISSING, DESTINATION_FULL,
 *   UNSAFE_PATH, UNSAFE_LINK, EXTRACT_FAILED (which path, with the system's error as cause)
 */
export async function extractTree(verified: VerifiedArchive, tree: string | Buffer, options: ExtractOptions): Promise<ExtractProgress> {
  const name = Buffer.from(tree);
  const place = verified.trees.find((candidate) => candidate.name.equals(name));
  if (place === undefined) throw new ArchiveError('MEMBER_MISSING', { archivePath: verified.archive.path, member: printable(name), what: 'no such tree' });
  const root = place.record.layout === 'nested' ? ROOT_NAME : place.name.toString('latin1');
  return extractTar(verified.archive, place.range, root, options);
}

/**
 * Extracts a directory that is not a listed tree, with all below it: CRIU's images are in `checkpoint`.
 * Promises and errors are those of `extractTree`.
 */
export async function extractMembers(verified: VerifiedArchive, prefix: string, options: ExtractOptions): Promise<ExtractProgress> {
  const start = verified.members.get(prefix)?.headerOffset;
  if (start === undefined) throw new ArchiveError('MEMBER_MISSING', { archivePath: verified.archive.path, member: prefix });
  let end = start;
  let inside = false;
  for (const [name, { headerOffset }] of verified.members) {
    end = headerOffset;
    const belongs = name === prefix || name.startsWith(`${prefix}/`);
    if (inside && !belongs) break;
    inside ||= belongs;
  }
  return extractTar(verified.archive, { start, end }, prefix, options);
}

/**
 * The content of one regular member.
 * @throws ArchiveError MEMBER_MISSING, MEMBER_TOO_BIG
 */
export async function readVerifiedMember(verified: VerifiedArchive, name: string, maxBytes: number): Promise<Buffer> {
  const { archive, members } = verified;
  const place = members.get(name);
  if (place === undefined || place.type !== 'file') throw new ArchiveError('MEMBER_MISSING', { archivePath: archive.path, member: name });
  for await (const member of walkMembers(archive, { start: place.headerOffset, end: archive.bytes })) return readMember(archive, member, maxBytes);
  throw new ArchiveError('MEMBER_MISSING', { archivePath: archive.path, member: name });
}

/**
 * Extracts the members of a tar, or of a part of one, that lie at or below `root` ('.' for all). What the names
 * and links say is checked first; data and headers must have been verified, or be trusted for other reasons.
 */
export async function extractTar(archive: OpenArchive, range: TarRange, root: string, options: ExtractOptions): Promise<ExtractProgress> {
  options.signal?.throwIfAborted();
  const names = await checkTar(archive, range, root, options);
  const rootType = names.members.get('')?.type ?? 'directory';
  const destination = resolve(options.destination);
  const target = rootType === 'directory' ? await openDirectory(destination) : await openParentOf(destination);
  const extraction = new Extraction(archive, target, destination, options);
  try {
    await extraction.run(range, root);
    return extraction.progress;
  } catch (error) {
    if (options.keepPartial !== true) await extraction.undo(names);
    throw error;
  } finally {
    extraction.close();
    await target.handle.close();
  }
}

/** Reads all headers and refuses the whole tar when one of them must not be extracted. */
async function checkTar(archive: OpenArchive, range: TarRange, root: string, options: ExtractOptions): Promise<NameTable<{ type: EntryType }>> {
  const names = new NameTable<{ type: EntryType }>();
  const types = new Map<EntryType, { type: EntryType }>();
  let turn = performance.now();
  for await (const { entry } of walkMembers(archive, range)) {
    const { type } = entry;
    const facts = { archivePath: archive.path, member: printable(entry.name) };
    const unsafe = unsafeName(entry.name);
    const name = relativeName(entry.name, root);
    if (unsafe !== undefined || name === undefined) throw new ArchiveError('UNSAFE_PATH', { ...facts, what: unsafe ?? `it is not below ${root}` });
    // (uid_t)-1 tells chown to leave the owner alone.
    if (entry.uid >= 0xffffffff || entry.gid >= 0xffffffff) throw new ArchiveError('ARCHIVE_DAMAGED', { ...facts, what: `owner ${entry.uid}:${entry.gid}` });
    if (options.devices === 'refuse' && type.endsWith('-device')) throw new ArchiveError('UNSAFE_PATH', { ...facts, what: 'a device node' });
    const linkname = entry.linkname === undefined ? undefined : relativeName(entry.linkname, root);
    let shared = types.get(type);
    if (shared === undefined) types.set(type, (shared = { type }));
    const wrong = names.add(name, shared, linkname);
    if (wrong !== undefined && type === 'hardlink') throw new ArchiveError('UNSAFE_LINK', { ...facts, linkname: printable(entry.linkname ?? ''), what: wrong });
    if (wrong !== undefined) throw new ArchiveError('UNSAFE_PATH', { ...facts, what: wrong });
    turn = await takeTurns(turn, options.signal);
  }
  const first = names.members.keys().next().value;
  if (names.members.has('') && first !== '') throw new ArchiveError('UNSAFE_PATH', { archivePath: archive.path, member: root, what: 'the root is not the first member' });
  if (names.members.size > 1 && (names.members.get('')?.type ?? 'directory') !== 'directory') throw new ArchiveError('UNSAFE_PATH', { archivePath: archive.path, member: root, what: 'members lie below it, and it is no directory' });
  return names;
}

/** A name relative to the tree's root, '' for the root itself, undefined when it is not within. */
function relativeName(name: Buffer, root: string): string | undefined {
  const text = name.toString('latin1');
  if (text === root) return '';
  if (root === ROOT_NAME) return text;
  return text.startsWith(`${root}/`) ? text.slice(root.length + 1) : undefined;
}

async function takeTurns(since: number, signal?: AbortSignal): Promise<number> {
  if (performance.now() - since < SLICE_MS) return since;
  await setImmediate();
  signal?.throwIfAborted();
  return performance.now();
}

/** The directory below which all is made. For a tree that is a single file: its parent, and the file's name. */
interface Target {
  handle: FileHandle;
  fileName?: string;
  /** The directory that was made for this extraction, if one was. */
  made?: string;
}

async function openDirectory(path: string): Promise<Target> {
  let made: string | undefined;
  try {
    await mkdir(path, 0o700);
    made = path;
  } catch (cause) {
    if (errnoOf(cause) !== 'EEXIST') throw new ArchiveError('DESTINATION_MISSING', { path, cause });
  }
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (cause) {
    if (errnoOf(cause) === 'ENOTDIR') throw new ArchiveError('DESTINATION_EXISTS', { path, what: 'it is not a directory' });
    throw new ArchiveError('DESTINATION_MISSING', { path, cause });
  }
  if (made !== undefined) return { handle, made };
  try {
    // Through the descriptor: what is looked at is what will be written to.
    const dir = await opendir(`/proc/self/fd/${handle.fd}`, { encoding: 'latin1' });
    const first = await dir.read().finally(() => dir.close());
    if (first !== null) throw new ArchiveError('DESTINATION_NOT_EMPTY', { path });
    return { handle };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openParentOf(path: string): Promise<Target> {
  try {
    return { handle: await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY), fileName: Buffer.from(basename(path)).toString('latin1') };
  } catch (cause) {
    throw new ArchiveError('DESTINATION_MISSING', { path, cause });
  }
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
  readonly #destination: string;
  readonly #options: ExtractOptions;
  readonly #beneath: Beneath;
  readonly #directories: { name: string; entry: Entry }[] = [];
  readonly #running = new Set<Promise<void>>();
  #batch: PendingFile[] = [];
  #batchBytes = 0;
  /** How many members, the root included, have been begun: the one that failed may exist too. */
  #begun = 0;

  constructor(archive: OpenArchive, target: Target, destination: string, options: ExtractOptions) {
    this.#archive = archive;
    this.#target = target;
    this.#destination = destination;
    this.#options = options;
    this.#beneath = new Beneath(target.handle.fd);
  }

  async run(range: TarRange, root: string): Promise<void> {
    try {
      let turn = performance.now();
      for await (const member of walkMembers(this.#archive, range)) {
        this.#begun++;
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
    copy.then(() => this.#running.delete(copy), () => undefined);
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
        this.#attempt(entry, () => this.#beneath.finishFile(fd, entry));
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
    const path = this.#destination;
    if (errno === 'EEXIST') {
      // Someone else's: not ours to remove.
      this.#begun--;
      if (this.#target.fileName !== undefined) return new ArchiveError('DESTINATION_EXISTS', { path });
    }
    const facts = { archivePath: this.#archive.path, member: printable(entry?.name ?? ''), path, cause };
    return new ArchiveError(errno === 'ENOSPC' || errno === 'EDQUOT' ? 'DESTINATION_FULL' : 'EXTRACT_FAILED', facts);
  }

  /** Removes what was made, last first. Says nothing of its own failures: the first one matters. */
  async undo(names: NameTable<{ type: EntryType }>): Promise<void> {
    const made = [...names.members].slice(0, this.#begun).reverse();
    const removals: [string, boolean][] = made.map(([name, { type }]) => [this.#target.fileName ?? name, type === 'directory']);
    for (const dir of [...this.#beneath.implied].reverse()) removals.push([dir, true]);
    let turn = performance.now();
    for (const [name, directory] of removals) {
      if (name === '') continue;
      try {
        this.#beneath.remove(name, directory);
      } catch {
        // Left where it is: someone else's file in a directory of ours keeps that directory.
      }
      turn = await takeTurns(turn);
    }
    if (this.#target.made !== undefined) await rmdir(this.#target.made).catch(() => undefined);
  }

  close(): void {
    this.#beneath.close();
  }
}
