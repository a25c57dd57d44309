import { ArchiveError, type ArchiveErrorCode } from '../format/archive-error.js';
import { Area } from '../members/segments.js';
import { Copies } from './copy-states.js';
import { CopyPass, type KnownFileSystem, type PassOptions } from './copy-pass.js';
import type { Entry } from '../format/entry.js';
import { canBeWatched, ScannedTree, type FileTreeOptions, type ScanResult } from '../scan/scanned-tree.js';
import type { TreeLayout } from '../format/manifest.js';
import type { StagingFile } from '../file/staging-file.js';
import { ownHeader } from './own-header.js';
import { sharesBlocks } from '../members/share-blocks.js';
import { takeTurns } from '../../yield-to-loop.js';
import { notifiesWrites } from '../scan/copy-trust.js';

export interface TreeSource extends FileTreeOptions {
  /**
   * The directory or single file on this machine. It is no symbolic link, and no link on the way is one that another
   * user could have put there: src/archive/scan/tree-root.ts.
   */
  path: string | Buffer;
  /** Its name in the archive. */
  name: string | Buffer;
  /** What the manifest says that its path was. Default: `path`. */
  recordedAs?: string | undefined;
  /**
   * `members` (default): the tree's files are members of the archive. `nested`: the tree is a tar that is one member.
   */
  layout?: TreeLayout;
  /**
   * Sees every entry before it is written, again when it changed; another entry takes its place, or none (undefined).
   */
  filter?: ((entry: Entry) => Entry | undefined) | undefined;
  /** It may be gone at any moment, and then it is left out. Default: `TREE_MISSING`. */
  mayVanish?: boolean | undefined;
}

/** Files changed in the last minute are staged last, where a copy that goes stale leaves the cheapest hole. */
const HOT_SEC = 60;
const ROOT = 0;
/** What may become of a tree once it runs again. */
const TAKEN_APART: readonly ArchiveErrorCode[] = ['TREE_MISSING', 'TREE_UNREADABLE', 'TREE_UNSAFE'];
/** A header of the usual kind, and padding. */
const ENTRY_BYTES = 1536 + 256;

/**
 * One tree and its copy in an area of the staging file. What a scan finds and what a copy achieves meet here;
 * when the passes happen is the stage's to say.
 */
export class StagedTree {
  readonly source: TreeSource;
  readonly layout: TreeLayout;
  readonly name: Buffer;
  /** Of the names of all members but the root's. */
  readonly prefix: Buffer;
  readonly files: ScannedTree;
  /** Ids on another mount than their parent, as the last scan had them. */
  crossings: Uint32Array = new Uint32Array();
  #file: StagingFile;
  readonly #copies: Copies;
  /**
   * Of the member that a nested tree is. A fraction of a second, so that its header has a pax part whatever the size:
   * then its length is known beforehand.
   */
  readonly #memberTimeNs = BigInt(Date.now()) * 1_000_000n + 1n;
  /** As `Described.fs` counts them. */
  readonly #fileSystems: KnownFileSystem[] = [];
  #scannedBytes = 0;
  /** Members without data that follow those of the files; of a nested tree only. */
  readonly appended: Entry[] = [];
  /** The copy has been brought up to date with files that stood still. */
  isCurrent = false;
  #isWatched = false;
  #watchFromMs = Infinity;
  /** The last scan believed what the kernel told of changes. */
  #told = false;
  /** Since when the files had stood still, for `confirm`; in milliseconds. */
  #stillSinceMs: number | undefined;

  /** In its file the copy, and with layout `nested` the member that it is, is from `start` on. */
  constructor(source: TreeSource, file: StagingFile, start = 0) {
    this.source = source;
    this.layout = source.layout ?? 'members';
    this.name = Buffer.from(source.name as string);
    this.prefix = this.layout === 'nested' ? Buffer.alloc(0) : Buffer.concat([this.name, Buffer.from('/')]);
    this.files = new ScannedTree(source.path, source);
    this.#file = file;
    this.#copies = new Copies(new Area(file.fd, start + this.memberHeader(0).length));
  }

  /** The staging file that has the copy, */
  get file(): StagingFile {
    return this.#file;
  }

  /** and where it is there. */
  get area(): Area {
    return this.#copies.area;
  }

  /** Of the member that a nested tree is, its tar being the member's data; empty where its files are the members. */
  memberHeader(dataBytes: number): Buffer {
    return this.layout === 'nested' ? ownHeader(this.name, dataBytes, this.#memberTimeNs) : Buffer.alloc(0);
  }

  /** The copy can be the first part of an archive without being moved. */
  get mayStay(): boolean {
    const { area } = this;
    return this.#rootSegment() === firstLive(area) && this.memberHeader(area.end).length === area.start;
  }

  /** Copies what is good of the copy into another file, from `start` on. The old file is of no use afterwards. */
  async moveTo(file: StagingFile, start: number): Promise<void> {
    const { area } = this;
    const headerBytes = this.memberHeader(area.end).length;
    this.#copies.area = await area.copyTo(file.fd, start + headerBytes, this.#rootSegment());
    this.#file = file;
  }

  /** Nothing has been scanned yet. */
  get isEmpty(): boolean {
    return this.#copies.count === 0;
  }

  /** About how much room the copy needs, for a message. */
  get neededBytes(): number {
    return Math.max(this.area.end, this.area.start + this.#scannedBytes + this.#copies.count * ENTRY_BYTES);
  }

  /**
   * Before the first scan: lets the kernel tell what changes from now on, if that scan takes this long. `ignored`:
   * descriptors of files that are ours.
   */
  async watch(ignored: Int32Array, fromMs: number, signal?: AbortSignal): Promise<void> {
    this.#watchFromMs = fromMs;
    this.#isWatched = await this.files.watch(ignored, signal);
  }

  /** A scan would only look at what the kernel told of, and at what it is asked to. */
  get isWatched(): boolean {
    return this.#isWatched;
  }

  #unwatch(): void {
    if (this.#isWatched) this.files.unwatch();
    this.#isWatched = false;
  }

  /** Looks at the tree again, at these inodes in any case. Afterwards `left` says what is to be copied. */
  async scan(inodes: ReadonlySet<bigint> = new Set(), signal?: AbortSignal): Promise<ScanResult> {
    const isFirst = this.isEmpty;
    const started = performance.now();
    const result = await this.files.scan({ hotSinceSec: Math.floor(Date.now() / 1000) - HOT_SEC, inodes, signal });
    const { fileSystems } = result;
    if (isFirst && (performance.now() - started < this.#watchFromMs || !canBeWatched(result))) this.#unwatch();
    for (const fileSystem of fileSystems.slice(this.#fileSystems.length)) {
      this.#fileSystems.push({ notifies: notifiesWrites(fileSystem), shares: sharesBlocks(fileSystem, this.area.fd) });
    }
    this.crossings = result.crossings;
    this.isCurrent = false;
    this.#told = result.told;
    this.#scannedBytes = Math.max(this.#scannedBytes, result.bytes);
    await this.#each('added', (id) => this.#copies.add(id));
    await this.#each('changed', (id) => this.#copies.doubt(id));
    await this.#each('removed', (id) => this.#copies.remove(id));
    if (isFirst) this.#copies.postpone(result.late);
    return result;
  }

  /** The copy is the tree as it has stood still since then, in milliseconds, as far as is known. */
  settle(stillSinceMs: number): void {
    this.#unwatch();
    this.isCurrent = true;
    this.#stillSinceMs = this.#told ? stillSinceMs : undefined;
  }

  /**
   * Once the files need not stand still any more: looks at all of them where the kernel's word was taken for what
   * changes. A change that it had not told of shows, unless another has come after it.
   * @throws ArchiveError CHANGE_UNNOTICED
   */
  async confirm(signal?: AbortSignal): Promise<void> {
    if (this.#stillSinceMs === undefined) return;
    let unnoticed: number | undefined;
    try {
      ({ unnoticed } = await this.files.scan({ stillSinceMs: this.#stillSinceMs, signal }));
    } catch (error) {
      // It may be taken apart by now.
      if (error instanceof ArchiveError && TAKEN_APART.includes(error.code)) return;
      throw error;
    }
    if (unnoticed !== undefined) throw new ArchiveError('CHANGE_UNNOTICED', { path: this.files.fullPath(unnoticed) });
  }

  async #each(what: 'added' | 'changed' | 'removed', act: (id: number) => void): Promise<void> {
    let since = performance.now();
    for (const ids of this.files.news(what)) {
      ids.forEach(act);
      since = await takeTurns(since);
    }
  }

  /** Withdraws trust from the entries with these inode numbers. */
  async doubtInodes(inodes: ReadonlySet<bigint>): Promise<void> {
    if (inodes.size > 0) for (const id of await this.files.find(inodes)) this.#copies.doubt(id);
  }

  /**
   * How many entries have no good copy, and the bytes of the copies that they have; `hopeful` leaves out what cannot
   * have a good one now.
   */
  left(options: { hopeful: boolean }): Promise<{ entries: number; bytes: number }> {
    return this.#copies.left(options);
  }

  /**
   * Copies what has no good copy, in an order that suits the archive, and last what is a link to something else.
   * Resolves with the latest change time of any, in milliseconds. @throws ArchiveError TREE_UNREADABLE,
   * ENTRY_UNREPRESENTABLE; errno errors of the output
   */
  async copy(options: PassOptions): Promise<number> {
    // A nested tree is hashed as the one member that it is.
    const hash = options.hash && this.layout === 'members';
    const pass = new CopyPass(this, this.#copies, this.#fileSystems, { ...options, hash });
    await this.#copies.doubtLinks(options);
    return pass.run();
  }

  /** The first entry without a good copy, as a path on this machine. */
  firstPending(): string | undefined {
    const id = this.#copies.firstLeft();
    return id === undefined ? undefined : this.files.fullPath(id);
  }

  /** For the manifest: entries in the archive, apparent bytes of regular files, sockets left out. */
  async totals(): Promise<{ entries: number; bytes: number; skippedSockets: Buffer[] }> {
    const { entries, bytes } = await this.#copies.totals();
    return {
      entries: entries + this.appended.length,
      bytes,
      skippedSockets: [...this.#copies.sockets].map((id) => this.files.pathOf(id)),
    };
  }

  /** Below the root, all that the last scan found; what the filter left out included. */
  *livePaths(): Generator<Buffer> {
    for (const id of this.#copies.live()) yield this.files.pathOf(id);
  }

  /** The segment of the root, which must come first in an archive. */
  #rootSegment(): number {
    for (let segment = 0; segment < this.area.count; segment++)
      if (this.area.isLive(segment) && this.area.ownerOf(segment) === ROOT) return segment;
    return -1;
  }

  /** The member's name of the entry at this path below the root. */
  memberName(path: Buffer): Buffer {
    if (path.length === 0) return this.layout === 'nested' ? Buffer.from('.') : this.name;
    return this.prefix.length === 0 ? path : Buffer.concat([this.prefix, path]);
  }
}

function firstLive(area: Area): number {
  for (let segment = 0; segment < area.count; segment++) if (area.isLive(segment)) return segment;
  return -1;
}
