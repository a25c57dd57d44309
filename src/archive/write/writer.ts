import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { errnoOf } from '../../errors.js';
import { ArchiveError, unrepresentable } from '../format/archive-error.js';
import { bytesToJson, printable } from '../format/byte-text.js';
import type { Entry } from '../format/entry.js';
import {
  checksumLine,
  encodeManifest,
  FORMAT_VERSION,
  MANIFEST_JSON,
  MANIFEST_SHA256,
  MAX_MANIFEST_BYTES,
  type Integrity,
  type TreeRecord,
} from '../format/manifest.js';
import { END_OF_ARCHIVE } from '../format/tar-encode.js';
import { Body } from './archive-body.js';
import { appendMemberList } from './member-list.js';
import { Output, outputError, type DeliveryOptions, type OutputOptions } from './output.js';
import { StagedTree, type TreeSource } from './staged-tree.js';

export type ArchiveWriterOptions = OutputOptions;

export interface SealOptions extends DeliveryOptions {
  /** What was dumped, for the manifest. */
  subject: Record<string, unknown>;
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

/**
 * Writes one archive. Nothing can be seen of it until `seal` has given it its name, whole and on disk; left
 * before that (`await using`, or `abort`), it has never been.
 */
export class ArchiveWriter implements AsyncDisposable {
  readonly #output: Output;
  readonly #trees: StagedTree[] = [];
  #body: Promise<Body> | undefined;

  private constructor(output: Output) {
    this.#output = output;
  }

  /** @throws ArchiveError OUTPUT_EXISTS, OUTPUT_DIR_MISSING, OUTPUT_FULL, OUTPUT_FAILED */
  static async create(options: ArchiveWriterOptions): Promise<ArchiveWriter> {
    return new ArchiveWriter(await Output.open(options));
  }

  /** The trees of the archive, each with a staging file of its own; those that `openTree` opened and nobody dropped. */
  get trees(): readonly StagedTree[] {
    return this.#trees;
  }

  /** For `Stage`. @throws ArchiveError STAGING_INSIDE_TREE; errno errors */
  async openTree(source: TreeSource, signal?: AbortSignal): Promise<void> {
    const tree = new StagedTree(source, await this.#output.openFile());
    this.#trees.push(tree);
    const root = await tree.files.identify(signal).catch(() => undefined); // the scan says what is wrong with it
    signal?.throwIfAborted();
    // A later archive of the tree would hold this one too, and so on.
    if (root !== undefined && (await this.#output.isWithin(root)))
      throw new ArchiveError('STAGING_INSIDE_TREE', { path: printable(tree.files.path) });
  }

  /** Nothing of it is to be in the archive, which has not been put together yet. */
  async dropTree(tree: StagedTree): Promise<void> {
    this.#trees.splice(this.#trees.indexOf(tree), 1);
    tree.files.close();
    await this.#output.discard(tree.file);
  }

  /** Descriptors of all its files. */
  get fds(): Int32Array {
    return this.#output.fds;
  }

  /**
   * Adds a directory or file that nobody writes to, such as CRIU's images, behind the staged trees, which
   * cannot be refreshed any more then. It is not listed among the manifest's trees.
   * @throws ArchiveError as `Stage.refresh`
   */
  async addTree(source: Omit<TreeSource, 'layout'>, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    await this.guard(async () => {
      const body = await this.#assembled();
      const tree = new StagedTree(source, body.file, body.end);
      try {
        await tree.scan();
        await tree.copy({ hopeful: false, hash: true, ahead: false, onCopied: () => options.signal?.throwIfAborted() });
        const path = tree.firstPending();
        if (path !== undefined) throw new ArchiveError('FILE_CHANGED', { path });
        await body.addTree(tree);
      } catch (error) {
        throw outputError(error, this.#output.path, tree.neededBytes);
      } finally {
        tree.files.close();
      }
    });
  }

  /**
   * Appends members without data to a staged tree that is a tar of its own, and counts them among its entries. To be
   * called before anything is added behind the staged trees.
   */
  appendTo(treeName: string, entries: readonly Entry[]): void {
    const wanted = Buffer.from(treeName);
    const tree = this.#trees.find(({ layout, name }) => layout === 'nested' && name.equals(wanted));
    if (tree === undefined || this.#body !== undefined)
      throw new Error(`nothing can be appended to ${treeName}: it is no nested tree, or the archive goes on behind it`);
    for (const entry of entries) tree.appended.push(entry);
  }

  /** Adds a small regular member. */
  async addDocument(document: { name: string; data: Buffer | string }): Promise<void> {
    await this.guard(async () =>
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
    await this.guard(async () => {
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
    return this.guard(async () => {
      const body = await this.#assembled();
      options.onProgress?.({ done: 0, total: body.end, unit: 'bytes' });
      // They wait for different parts of the machine. Whichever fails, none may go on in a thread when the file is
      // closed.
      const work = [
        appendMemberList(body),
        this.#startFlush(body),
        ...this.#trees.map((tree) => tree.confirm(options.signal)),
      ] as const;
      await Promise.allSettled(work);
      const [{ members, bytes: memberBytes, sha256, headersSha256 }] = await Promise.all(work);
      options.signal?.throwIfAborted();
      await this.#addManifest(body, { members, bytes: memberBytes, membersSha256: sha256, headersSha256 }, options);
      await body.write(body.end, END_OF_ARCHIVE);
      const bytes = body.end + END_OF_ARCHIVE.length;
      // What has slid down left its old bytes behind the end.
      await body.file.handle.truncate(bytes);
      options.signal?.throwIfAborted();
      const written = await this.#output.deliver(body.file, bytes, options);
      await this.abort();
      return { path: this.#output.outputPath, bytes: written, members, memberBytes };
    });
  }

  async #addManifest(body: Body, integrity: Integrity, { subject }: SealOptions): Promise<void> {
    const json = encodeManifest({
      format: 'stillframe',
      version: FORMAT_VERSION,
      integrity,
      trees: await this.#records(),
      subject,
    });
    if (json.length > MAX_MANIFEST_BYTES)
      throw unrepresentable(
        Buffer.from(MANIFEST_JSON),
        `it has ${json.length} bytes; at most ${MAX_MANIFEST_BYTES} are read`,
      );
    const proof = checksumLine(createHash('sha256').update(json).digest(), Buffer.from(MANIFEST_JSON));
    await body.addDocument(Buffer.from(MANIFEST_JSON), json);
    await body.addDocument(Buffer.from(MANIFEST_SHA256), proof);
  }

  /** Lets go of everything. Before `seal` that means: as if it had never been. */
  async abort(): Promise<void> {
    await this.#body?.catch(() => undefined);
    for (const tree of this.#trees) tree.files.close();
    await this.#output.discardAll();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.abort();
  }

  /** Errors of the system become those of the output. */
  async guard<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      throw outputError(error, this.#output.path, Math.max(0, ...this.#trees.map((tree) => tree.neededBytes)));
    }
  }

  #assembled(): Promise<Body> {
    if (this.#body === undefined) {
      const stale = this.#trees.find((tree) => !tree.isCurrent);
      if (stale !== undefined)
        throw new Error(`the copy of ${printable(stale.files.path)} is not current: refresh() must come before this`);
      this.#body = Body.of(this.#trees, () => this.#output.openFile());
    }
    return this.#body;
  }

  /** Most of it is on disk, then, when the delivery asks for all. */
  async #startFlush(body: Body): Promise<void> {
    if (this.#output.isFileItself) await body.file.handle.datasync();
  }

  async #records(): Promise<TreeRecord[]> {
    const records: TreeRecord[] = [];
    for (const tree of this.#trees) {
      const { entries, bytes, skippedSockets } = await tree.totals();
      const { exclude = [] } = tree.source;
      records.push({
        name: bytesToJson(tree.name),
        source: tree.source.recordedAs ?? bytesToJson(tree.files.path),
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
