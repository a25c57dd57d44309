import { closeSync } from 'node:fs';
import { errnoOf } from '../../errors.js';
import { JobQueue } from '../../job-queue.js';
import { native } from '../../native.js';
import { takeTurns } from '../../yield-to-loop.js';
import { ArchiveError } from '../format/archive-error.js';
import { printable } from '../format/byte-text.js';
import type { Entry } from '../format/entry.js';
import { storedRanges } from '../format/tar-encode.js';
import type { MemberFile } from '../read/member-batch.js';
import { walkMembers, type Member, type OpenArchive, type TarRange } from '../read/reader.js';
import { relativeName } from '../read/refuse-unsafe.js';
import type { OpenDestination } from './destination.js';
import { Beneath, describeFd } from './openat-dir.js';

export interface ExtractionOptions {
  /** Members of which nothing is made. */
  skip?: ((entry: Entry) => boolean) | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: ExtractProgress) => void) | undefined;
}

export interface ExtractProgress {
  /** Entries that are done, the tree's root included. */
  entries: number;
  /** Data copied, in bytes; holes do not count. */
  bytes: number;
}

/** A batch of small files is copied by one trip to a thread. */
const BATCH_FILES = 64;
const BATCH_BYTES = 8 * 1024 * 1024;
/** So many are copied at a time. */
const BATCHES = 3;

interface PendingFile {
  fd: number;
  entry: Entry;
  dataOffset: number;
  storedBytes: number;
}

/** Makes the members of one tar below a directory that is held open; their names and links have been checked. */
export class Extraction {
  readonly progress: ExtractProgress = { entries: 0, bytes: 0 };
  readonly #archive: OpenArchive;
  readonly #target: OpenDestination;
  readonly #options: ExtractionOptions;
  readonly #beneath: Beneath;
  readonly #directories: { name: string; entry: Entry }[] = [];
  readonly #copying = new JobQueue(BATCHES);
  #batch: PendingFile[] = [];
  #batchBytes = 0;
  /** Something may have been made that is ours to remove. */
  begun = false;

  constructor(archive: OpenArchive, target: OpenDestination, options: ExtractionOptions) {
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
        const fd = this.#make(this.#target.fileName ?? name, member.entry, linkname);
        if (fd !== undefined) this.#addToBatch(fd, member);
        if (this.#batch.length >= BATCH_FILES || this.#batchBytes >= BATCH_BYTES) await this.#startBatch();
        turn = await takeTurns(turn, this.#options.signal);
      }
      await this.#startBatch();
      await this.#copying.done();
    } finally {
      // Whatever happened: no thread may write to a descriptor that is closed, or to a tree that is being removed.
      await this.#copying.settle();
      for (const { fd } of this.#batch.splice(0)) closeSync(fd);
    }
    await this.finish();
    this.#options.onProgress?.({ ...this.progress });
  }

  /**
   * Makes one member; undefined where it has no data. Whoever puts the data there ends with the file's `finish`, and
   * with `finish` of all.
   */
  place(name: string, member: Member, linkname: string | undefined): MemberFile | undefined {
    const { entry, storedBytes } = member;
    const fd = this.#make(this.#target.fileName ?? name, entry, linkname);
    if (fd === undefined) return undefined;
    const close = (): void => closeSync(fd);
    try {
      if (entry.data !== undefined) this.#attempt(entry, () => this.#beneath.truncate(fd, entry.size));
    } catch (error) {
      close();
      throw error;
    }
    const finish = (): void => {
      try {
        this.#describe(fd, entry, storedBytes);
      } finally {
        close();
      }
    };
    return { fd, ranges: storedRanges(entry), finish, failed: (cause) => this.#failed(entry, cause), close };
  }

  /** Of a file the descriptor, which is the caller's. */
  #make(name: string, entry: Entry, linkname: string | undefined): number | undefined {
    let fd: number | undefined;
    this.#attempt(entry, () => {
      if (entry.type === 'file') fd = this.#beneath.createFile(name);
      else this.#makeOther(name, entry, linkname);
    });
    if (fd !== undefined) this.begun = true;
    return fd;
  }

  #makeOther(name: string, entry: Entry, linkname: string | undefined): void {
    const { type } = entry;
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

  #addToBatch(fd: number, { entry, dataOffset, storedBytes }: Member): void {
    this.#batch.push({ fd, entry, dataOffset, storedBytes });
    this.#batchBytes += storedBytes;
  }

  /** Sends the gathered files to a thread; waits only when enough are on their way already. */
  async #startBatch(): Promise<void> {
    const files = this.#batch;
    if (files.length === 0) return;
    this.#batch = [];
    this.#batchBytes = 0;
    await this.#copying.add(this.#copyBatch(files));
  }

  async #copyBatch(files: PendingFile[]): Promise<void> {
    try {
      const ranges: number[] = [];
      const owners: PendingFile[] = [];
      for (const file of files) {
        const { fd, entry } = file;
        if (entry.data !== undefined) this.#attempt(entry, () => this.#beneath.truncate(fd, entry.size));
        let from = file.dataOffset;
        for (const { offset, length } of storedRanges(entry)) {
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
        this.#describe(fd, entry, storedBytes);
      }
      this.#options.onProgress?.({ ...this.progress });
    } finally {
      for (const { fd } of files) closeSync(fd);
    }
  }

  /** All data of the file is there. */
  #describe(fd: number, entry: Entry, storedBytes: number): void {
    this.#attempt(entry, () => describeFd(fd, entry));
    this.progress.entries++;
    this.progress.bytes += storedBytes;
  }

  /** Last of all. Children before parents: making a child changes its parent's time, and a mode may forbid it. */
  async finish(signal = this.#options.signal): Promise<void> {
    let turn = performance.now();
    for (const { name, entry } of this.#directories.reverse()) {
      this.#attempt(entry, () => this.#beneath.finishDirectory(name, entry));
      turn = await takeTurns(turn, signal);
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
