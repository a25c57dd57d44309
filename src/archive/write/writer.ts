import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, open, realpath, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { errnoOf, StillframeError } from '../../errors.js';
import { ArchiveError, unrepresentable } from '../format/archive-error.js';
import { Body, nestedHeader, nestedTime, wholeSecond, type NestedTree } from './archive-body.js';
import { bytesToJson, printable } from '../format/byte-text.js';
import type { Entry } from '../format/entry.js';
import {
  checksumLine,
  encodeManifest,
  FORMAT_VERSION,
  MANIFEST_JSON,
  MANIFEST_SHA256,
  MAX_MANIFEST_BYTES,
  MEMBERS_SHA256,
  type TreeRecord,
} from '../format/manifest.js';
import {
  checkCompression,
  compressor,
  send,
  sendToReader,
  writableOf,
  type OutputCompression,
} from '../file/deliver.js';
import { StagedTree, type TreeSource } from './staged-tree.js';
import { StagingFile, type HiddenNames } from '../file/staging-file.js';
import { BLOCK_BYTES, encodeHeader, END_OF_ARCHIVE, padding } from '../format/tar-encode.js';

export type ArchiveWriterOptions = (FileOutput | StreamOutput) & {
  /** Compress the archive as a whole, when it is complete. Default: not at all. */
  compress?: OutputCompression | undefined;
  /** Told of hidden files, where there are any. */
  hidden?: HiddenNames | undefined;
};

export interface FileOutput {
  /** The archive. Its directory must exist, and is where the archive grows, as a file without a name. */
  outputPath: string;
  /** Replace an existing file, in one step at the end. Default false: it is an error. */
  overwrite?: boolean;
}

export interface StreamOutput {
  /** What gets the archive, once it is complete, at its own pace. It is ended, or destroyed on failure. */
  output: Writable;
  /** Where the archive grows, as a file without a name. Default: the system's directory for temporary files. */
  stagingDir?: string;
}

export interface SealOptions {
  /** What was dumped, for the manifest. */
  subject: Record<string, unknown>;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: { done: number; total: number; unit: 'bytes' }) => void) | undefined;
}

export interface SealedArchive {
  /** Undefined when it went to a stream. */
  path: string | undefined;
  /** Size of the output. */
  bytes: number;
  /** Regular members, and the bytes of their data. */
  members: number;
  memberBytes: number;
}

/** @throws ArchiveError OUTPUT_EXISTS for what is not to be overwritten, or is a directory */
export async function refuseExisting(path: string, overwrite: boolean): Promise<void> {
  const existing = await lstat(path).catch(() => undefined);
  if (existing !== undefined && (!overwrite || existing.isDirectory()))
    throw new ArchiveError('OUTPUT_EXISTS', { path });
}

/**
 * Writes one archive. Nothing can be seen of it until `seal` has given it its name, whole and on disk; left
 * before that (`await using`, or `abort`), it has never been.
 */
export class ArchiveWriter implements AsyncDisposable {
  /** For messages: the output's path, or the staging directory. */
  readonly #path: string;
  readonly #directory: string;
  readonly #output: FileOutput | StreamOutput;
  readonly #compress: OutputCompression | undefined;
  readonly #hidden: HiddenNames;
  readonly #staged: NestedTree[] = [];
  readonly #files = new Set<StagingFile>();
  readonly #trees = new Set<StagedTree>();
  /** Opened already, and not yet in use. */
  #first: StagingFile | undefined;
  #body: Promise<Body> | undefined;

  private constructor(options: ArchiveWriterOptions) {
    this.#output = options;
    this.#path = resolve('outputPath' in options ? options.outputPath : (options.stagingDir ?? tmpdir()));
    this.#directory = 'outputPath' in options ? dirname(this.#path) : this.#path;
    this.#compress = options.compress;
    this.#hidden = options.hidden ?? {};
  }

  /** @throws ArchiveError OUTPUT_EXISTS, OUTPUT_DIR_MISSING, OUTPUT_FAILED */
  static async create(options: ArchiveWriterOptions): Promise<ArchiveWriter> {
    const writer = new ArchiveWriter(options);
    checkCompression(options.compress, writer.#path);
    await writer.#checkOutput();
    return writer;
  }

  /** For `Stage`: a tree with a staging file of its own. */
  async openTree(source: TreeSource, signal?: AbortSignal): Promise<StagedTree> {
    const file = await this.#openFile();
    const mtimeNs = source.layout === 'nested' ? nestedTime() : undefined;
    const start = mtimeNs === undefined ? 0 : nestedHeader(Buffer.from(source.name as string), mtimeNs, 0).length;
    const tree = new StagedTree(source, file.fd, start);
    this.#trees.add(tree);
    await this.#checkOutside(tree, signal);
    this.#staged.push({ tree, file, mtimeNs });
    return tree;
  }

  /** Nothing of it is to be in the archive, which has not been put together yet. */
  async dropTree(tree: StagedTree): Promise<void> {
    const at = this.#staged.findIndex((staged) => staged.tree === tree);
    const [staged] = at === -1 ? [] : this.#staged.splice(at, 1);
    this.#trees.delete(tree);
    tree.files.close();
    if (staged === undefined) return;
    this.#files.delete(staged.file);
    await staged.file.discard();
  }

  /** Descriptors of all its files. */
  get fds(): Int32Array {
    return Int32Array.from(this.#files, ({ fd }) => fd);
  }

  /**
   * Adds a directory or file that nobody writes to, such as CRIU's images, behind the staged trees, which
   * cannot be refreshed any more then. It is not listed among the manifest's trees.
   * @throws ArchiveError as `Stage.refresh`
   */
  async addTree(source: Omit<TreeSource, 'layout'>, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    await this.#guard(async () => {
      const body = await this.#assembled();
      const tree = new StagedTree(source, body.fd, body.end);
      this.#trees.add(tree);
      await tree.scan();
      await tree.copy({ hopeful: false, hash: true, ahead: false, onCopied: () => options.signal?.throwIfAborted() });
      const path = tree.firstPending();
      if (path !== undefined) throw new ArchiveError('FILE_CHANGED', { path });
      await body.addTree(tree);
    });
  }

  /**
   * Appends members without data to a staged tree that is a tar of its own, and counts them among its entries. To be
   * called before anything is added behind the staged trees.
   */
  appendTo(treeName: string, entries: readonly Entry[]): void {
    const wanted = Buffer.from(treeName);
    const staged = this.#staged.find(({ tree }) => tree.layout === 'nested' && tree.name.equals(wanted));
    if (staged === undefined || this.#body !== undefined)
      throw new Error(`nothing can be appended to ${treeName}: it is no nested tree, or the archive goes on behind it`);
    for (const entry of entries) staged.tree.appended.push(entry);
  }

  /** Adds a small regular member. */
  async addDocument(document: { name: string; data: Buffer | string }): Promise<void> {
    await this.#guard(async () =>
      (await this.#assembled()).addDocument(Buffer.from(document.name), Buffer.from(document.data as string)),
    );
  }

  /**
   * Adds a regular member with the bytes that a file has now, however many. Somebody may write to it: what comes
   * meanwhile is not taken along. Adds nothing where there is no such file.
   */
  async addFile(
    { name, file }: { name: string; file: string },
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): Promise<void> {
    await this.#guard(async () => {
      // A FIFO of that name must not hold a thread for ever.
      const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY).catch(
        (error: unknown) => {
          if (errnoOf(error) === 'ENOENT') return undefined;
          throw new ArchiveError('TREE_UNREADABLE', { path: file, cause: error });
        },
      );
      if (handle === undefined) return;
      try {
        if ((await handle.stat()).isFile())
          await (await this.#assembled()).addFile(Buffer.from(name), handle, { path: file, signal });
      } finally {
        await handle.close();
      }
    });
  }

  /**
   * Completes the archive, makes it durable and gives it its name.
   * @throws ArchiveError OUTPUT_EXISTS, OUTPUT_FULL, OUTPUT_FAILED, CHANGE_UNNOTICED
   */
  async seal(options: SealOptions): Promise<SealedArchive> {
    return this.#guard(async () => {
      const body = await this.#assembled();
      const total = body.end;
      options.onProgress?.({ done: 0, total, unit: 'bytes' });
      // They wait for different parts of the machine. Whichever fails, none may go on in a thread when the file is
      // closed.
      const work = [
        this.#writeList(body),
        this.#startFlush(body),
        ...this.#staged.map(({ tree }) => tree.confirm(options.signal)),
      ] as const;
      await Promise.allSettled(work);
      const [list] = await Promise.all(work);
      options.signal?.throwIfAborted();
      const { members, bytes: memberBytes } = list;
      const integrity = { members, bytes: memberBytes, membersSha256: list.sha256, headersSha256: list.headersSha256 };
      const json = encodeManifest({
        format: 'stillframe',
        version: FORMAT_VERSION,
        integrity,
        trees: await this.#records(),
        subject: options.subject,
      });
      if (json.length > MAX_MANIFEST_BYTES)
        throw unrepresentable(
          Buffer.from(MANIFEST_JSON),
          `it has ${json.length} bytes; at most ${MAX_MANIFEST_BYTES} are read`,
        );
      const proof = checksumLine(createHash('sha256').update(json).digest(), Buffer.from(MANIFEST_JSON));
      await body.addDocument(Buffer.from(MANIFEST_JSON), json);
      await body.addDocument(Buffer.from(MANIFEST_SHA256), proof);
      await body.write(body.end, END_OF_ARCHIVE);
      const bytes = body.end + END_OF_ARCHIVE.length;
      // What has slid down left its old bytes behind the end.
      await body.file.handle.truncate(bytes);
      options.signal?.throwIfAborted();
      const written = await this.#hand(body.file, bytes, options);
      await this.abort();
      return { path: 'outputPath' in this.#output ? this.#path : undefined, bytes: written, members, memberBytes };
    });
  }

  /** Gives the complete archive to whom it is for. Returns how many bytes they got. */
  async #hand(file: StagingFile, bytes: number, { signal, onProgress }: SealOptions): Promise<number> {
    let done = 0;
    const onRead = (read: number): void => onProgress?.({ done: (done += read), total: bytes, unit: 'bytes' });
    if (!('outputPath' in this.#output))
      return sendToReader(file, compressor(this.#compress), this.#output.output, { signal, onRead });
    const options = { overwrite: this.#output.overwrite ?? false };
    if (this.#compress === undefined) {
      await file.publish(this.#path, options);
      onProgress?.({ done: bytes, total: bytes, unit: 'bytes' });
      return bytes;
    }
    const compressed = await this.#openFile();
    const written = await send(file, compressor(this.#compress), writableOf(compressed), { signal, onRead });
    await compressed.publish(this.#path, options);
    return written;
  }

  /** Lets go of everything. Before `seal` that means: as if it had never been. */
  async abort(): Promise<void> {
    await this.#body?.catch(() => undefined);
    for (const tree of this.#trees) tree.files.close();
    this.#trees.clear();
    const files = [...this.#files];
    this.#files.clear();
    await Promise.all(files.map((file) => file.discard()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.abort();
  }

  /** What an error of the system means here. */
  explain(error: unknown): unknown {
    if (error instanceof StillframeError) return error;
    const errno = errnoOf(error);
    const path = this.#path;
    if (errno === 'ENOSPC' || errno === 'EDQUOT') {
      const bytes = Math.max(0, ...[...this.#trees].map((tree) => tree.neededBytes));
      return new ArchiveError('OUTPUT_FULL', { path, ...(bytes > 0 ? { bytes } : {}), cause: error });
    }
    return errno === undefined ? error : new ArchiveError('OUTPUT_FAILED', { path, cause: error });
  }

  async #guard<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      throw this.explain(error);
    }
  }

  /** Opens the first staging file: what cannot be written is known before anything else is done. */
  async #checkOutput(): Promise<void> {
    if ('outputPath' in this.#output) await refuseExisting(this.#path, this.#output.overwrite === true);
    try {
      this.#first = await this.#openFile();
    } catch (cause) {
      if (['ENOSPC', 'EDQUOT'].includes(errnoOf(cause) ?? '')) throw this.explain(cause);
      const isMissing = ['ENOENT', 'ENOTDIR'].includes(errnoOf(cause) ?? '');
      throw new ArchiveError(isMissing ? 'OUTPUT_DIR_MISSING' : 'OUTPUT_FAILED', { path: this.#directory, cause });
    }
  }

  /** The archive of a tree must not come to lie in that tree: a later one would hold it too, and so on. */
  async #checkOutside({ files }: StagedTree, signal: AbortSignal | undefined): Promise<void> {
    const root = await files.identify(signal).catch(() => undefined);
    signal?.throwIfAborted();
    if (root === undefined) return; // the scan says what is wrong with it
    let path = await realpath(this.#directory);
    const places = [this.#path];
    for (; ; path = dirname(path)) {
      places.push(path);
      if (path === dirname(path)) break;
    }
    for (const place of places) {
      const found = await stat(place, { bigint: true }).catch(() => undefined);
      if (found?.dev === root.dev && found.ino === root.ino)
        throw new ArchiveError('STAGING_INSIDE_TREE', { path: printable(files.path) });
    }
  }

  async #openFile(): Promise<StagingFile> {
    const first = this.#first;
    this.#first = undefined;
    if (first !== undefined) return first;
    const file = await StagingFile.create(this.#directory, basename(this.#path), this.#hidden);
    this.#files.add(file);
    return file;
  }

  #assembled(): Promise<Body> {
    if (this.#body === undefined) {
      const stale = this.#staged.find(({ tree }) => !tree.isCurrent);
      if (stale !== undefined)
        throw new Error(
          `the copy of ${printable(stale.tree.files.path)} is not current: refresh() must come before this`,
        );
      this.#body = Body.of(this.#staged, () => this.#openFile());
    }
    return this.#body;
  }

  /** Most of it is on disk, then, when `publish` asks for all. */
  async #startFlush(body: Body): Promise<void> {
    if ('outputPath' in this.#output && this.#compress === undefined) await body.file.handle.datasync();
  }

  /** Streams the list of hashes to its place, then writes the header that needed its size. */
  async #writeList(body: Body): Promise<{ sha256: string; headersSha256: string; members: number; bytes: number }> {
    await body.hashMembers();
    const headersSha256 = (await body.headersSha256()).toString('hex');
    const hash = createHash('sha256');
    const totals = { members: 0, bytes: 0 };
    const start = body.end + BLOCK_BYTES;
    let at = start;
    for await (const lines of body.lines(totals)) {
      hash.update(lines);
      await body.write(at, lines);
      at += lines.length;
    }
    const size = at - start;
    const header = encodeHeader({
      name: Buffer.from(MEMBERS_SHA256),
      type: 'file',
      mode: 0o600,
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
      size,
      mtimeNs: wholeSecond(),
    });
    if (header.length !== BLOCK_BYTES)
      throw new ArchiveError('ENTRY_UNREPRESENTABLE', {
        member: MEMBERS_SHA256,
        what: `its header takes ${header.length} bytes`,
      });
    await body.write(body.end, header);
    await body.write(at, Buffer.alloc(padding(size)));
    body.end = at + padding(size);
    return { sha256: hash.digest('hex'), headersSha256, ...totals };
  }

  async #records(): Promise<TreeRecord[]> {
    const records: TreeRecord[] = [];
    for (const { tree } of this.#staged) {
      const { entries, bytes, skippedSockets } = await tree.totals();
      const { exclude = [] } = tree.source;
      records.push({
        name: bytesToJson(tree.name),
        source: bytesToJson(tree.files.path),
        layout: tree.layout,
        entries,
        bytes,
        skippedSockets: skippedSockets.map(bytesToJson),
        ...(exclude.length === 0
          ? {}
          : { exclude: exclude.map((pattern) => bytesToJson(Buffer.from(pattern as string))) }),
      });
    }
    return records;
  }
}
