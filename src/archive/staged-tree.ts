import type { Area } from './area.js';
import { Column } from './column.js';
import { CopyBatch, type CopyResult } from './copy-batch.js';
import { CopyQueue } from './copy-queue.js';
import { entryOf, linkOf, typeOf } from './describe-entry.js';
import type { Entry } from './entry.js';
import type { Described, Description, ReadyMember, Stamp } from './description.js';
import { FileTree, type FileTreeOptions, type ScanResult } from './file-tree.js';
import { HardLinks } from './hard-links.js';
import type { TreeLayout } from './manifest.js';
import { encodeHeader } from './tar.js';
import { notifiesWrites, type PassTrust } from './trust.js';

export interface TreeSource extends FileTreeOptions {
  /** The directory or single file on this machine. A symbolic link here, and only here, is followed. */
  path: string | Buffer;
  /** Its name in the archive. */
  name: string | Buffer;
  /** `members` (default): the tree's files are members of the archive. `nested`: the tree is a tar that is one member. */
  layout?: TreeLayout;
  /** Sees every entry before it is written, again when it changed; another entry takes its place, or none (undefined). */
  filter?: ((entry: Entry) => Entry | undefined) | undefined;
}

/** How a pass copies. */
export interface PassOptions {
  /** Undefined when the files stand still: then whatever was copied well is good. */
  trust?: PassTrust;
  /** Hash small files while they are in memory; inside the window there is no time for it. */
  hash: boolean;
  /** For every batch copied. It may throw to end the pass. */
  onCopied: (files: number, bytes: number) => void;
}

/** Below the flag TRUSTED: copied, and nothing can have happened to it that the next scan would not tell. */
const LIVE = 1;
const TRUSTED = 2;
/** No copy made while the tree runs can be trusted: one more pass is of no use. */
const HOPELESS = 4;

const DESCRIBE_IDS = 512;
/** Room for what is read of the small ones among them. */
const DATA_BYTES = 4 * 1024 * 1024;
const DESCRIBE_AHEAD = 2;
/** Files changed in the last minute are staged last, where a copy that goes stale leaves the cheapest hole. */
const HOT_SEC = 60;
const ROOT = 0;
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
  /** Where the copy is. Sealing may put it elsewhere. */
  area: Area;
  readonly files: FileTree;
  /** Ids on another mount than their parent, as the last scan had them. */
  crossings: Uint32Array = new Uint32Array();
  /** Of the names of all members but the root's. */
  readonly #prefix: Buffer;
  readonly #links = new HardLinks();
  readonly #sockets = new Set<number>();
  /** Apparent sizes where they are not the stored ones. */
  readonly #sparse = new Map<number, number>();
  #notifies: boolean[] = [];
  /** By id: the segment's number from 1 on, or 0; and flags. */
  readonly #segments = new Column(Uint32Array);
  readonly #flags = new Column(Uint8Array);
  #ids = 0;
  #scannedBytes = 0;
  /** The copy has been brought up to date with files that stood still. */
  isCurrent = false;

  constructor(source: TreeSource, area: Area) {
    this.source = source;
    this.layout = source.layout ?? 'members';
    this.name = Buffer.from(source.name as string);
    this.#prefix = this.layout === 'nested' ? Buffer.alloc(0) : Buffer.concat([this.name, Buffer.from('/')]);
    this.area = area;
    this.files = new FileTree(source.path, source);
  }

  /** Nothing has been scanned yet. */
  get isEmpty(): boolean {
    return this.#ids === 0;
  }

  /** About how much room the copy needs, for a message. */
  get neededBytes(): number {
    return Math.max(this.area.end, this.area.start + this.#scannedBytes + this.#ids * ENTRY_BYTES);
  }

  /** Looks at the tree again. Afterwards `pending` says what is to be copied. */
  async scan(): Promise<ScanResult> {
    const result = await this.files.scan({ hotSinceSec: Math.floor(Date.now() / 1000) - HOT_SEC });
    const { added, changed, removed, fileSystems } = result;
    while (this.#notifies.length < fileSystems.length) this.#notifies.push(notifiesWrites(fileSystems[this.#notifies.length] as ScanResult['fileSystems'][0]));
    this.crossings = result.crossings;
    this.isCurrent = false;
    this.#scannedBytes = Math.max(this.#scannedBytes, result.bytes);
    for (const id of added) this.#add(id);
    for (const id of changed) this.#doubt(id);
    for (const id of removed) this.#remove(id);
    return result;
  }

  /** Withdraws trust from the entries with these inode numbers. */
  doubtInodes(inodes: ReadonlySet<bigint>): void {
    if (inodes.size > 0) for (const id of this.files.find(inodes)) this.#doubt(id);
  }

  /** What has no good copy, in an order that suits the archive; `hopeful` leaves out what cannot have one now. */
  pending(options: { hopeful: boolean }): { ids: Uint32Array; bytes: number } {
    const ids: number[] = [];
    let bytes = 0;
    for (let id = 0; id < this.#ids; id++) {
      const flags = this.#flags.get(id);
      if ((flags & (LIVE | TRUSTED)) !== LIVE || (options.hopeful && (flags & HOPELESS) !== 0)) continue;
      ids.push(id);
      const segment = this.#segments.get(id) - 1;
      if (segment >= 0) bytes += this.area.dataBytesOf(segment);
    }
    return { ids: Uint32Array.from(ids), bytes };
  }

  /** Copies these entries, those first that others link to. @throws ArchiveError TREE_UNREADABLE, ENTRY_UNREPRESENTABLE; errno errors of the output */
  async copy(ids: Uint32Array, options: PassOptions): Promise<void> {
    const links: number[] = [];
    await this.#copyAll(this.#withLinks(ids), options, links);
    await this.#copyAll(Uint32Array.from(links), options, undefined);
  }

  /** The first entry without a good copy, as a path on this machine. */
  firstPending(): string | undefined {
    const [id] = this.pending({ hopeful: false }).ids;
    return id === undefined ? undefined : this.files.fullPath(id);
  }

  /** For the manifest: entries in the archive, apparent bytes of regular files, sockets left out. */
  totals(): { entries: number; bytes: number; skippedSockets: Buffer[] } {
    let entries = 0;
    let bytes = 0;
    for (let segment = 0; segment < this.area.count; segment++) {
      if (!this.area.isLive(segment)) continue;
      entries++;
      if (this.area.isRegular(segment)) bytes += this.#sparse.get(this.area.ownerOf(segment)) ?? this.area.dataBytesOf(segment);
    }
    return { entries, bytes, skippedSockets: this.files.paths(Uint32Array.from(this.#sockets)) };
  }

  /** Below the root, all that the last scan found; what the filter left out included. */
  livePaths(): Buffer[] {
    const ids: number[] = [];
    for (let id = 0; id < this.#ids; id++) if ((this.#flags.get(id) & LIVE) !== 0) ids.push(id);
    return this.files.paths(Uint32Array.from(ids));
  }

  /** The segment of the root, which must come first in an archive. */
  get rootSegment(): number {
    for (let segment = 0; segment < this.area.count; segment++) if (this.area.isLive(segment) && this.area.ownerOf(segment) === ROOT) return segment;
    return -1;
  }

  /** The member's name for each of these ids, its bytes in latin1. */
  memberNames(ids: Uint32Array): string[] {
    const prefix = this.#prefix.toString('latin1');
    return this.files.latin1Paths(ids).map((path) => (path === '' ? this.#memberName(Buffer.alloc(0)).toString('latin1') : prefix + path));
  }

  #memberName(path: Buffer): Buffer {
    if (path.length === 0) return this.layout === 'nested' ? Buffer.from('.') : this.name;
    return this.#prefix.length === 0 ? path : Buffer.concat([this.#prefix, path]);
  }

  async #copyAll(ids: Uint32Array, options: PassOptions, links: number[] | undefined): Promise<void> {
    const copying = new CopyQueue();
    // A filter wants to see every entry: then none is made without it.
    const prefix = this.source.filter === undefined ? this.#prefix : undefined;
    // A few buffers go round: fresh ones would cost a page fault for every 4 kB.
    const spare: Buffer[] = [];
    // While entries are encoded and copied, the next ones are described.
    const described: Promise<Description>[] = [];
    let next = 0;
    const describe = (): void => {
      if (next >= ids.length) return;
      const description = this.files.describe(ids.subarray(next, (next += DESCRIBE_IDS)), { hash: options.hash, data: spare.pop() ?? Buffer.alloc(DATA_BYTES), prefix });
      description.catch(() => undefined); // it is awaited in its turn
      described.push(description);
    };
    try {
      for (let i = 0; i < DESCRIBE_AHEAD; i++) describe();
      for (let current = described.shift(); current !== undefined; current = described.shift()) {
        const description = await current;
        describe();
        const runs: Promise<void>[] = [];
        const run = (batch: CopyBatch): Promise<void> => {
          runs.push(this.#run(batch, description, options));
          return copying.add(runs.at(-1) as Promise<void>);
        };
        let batch = new CopyBatch(this.area.fd, this.files.handle, description);
        for (const record of description.records()) {
          const member = description.member(record);
          if (member === undefined) this.#stage(description.entry(record), options, batch, links);
          else this.#stageMember(record, member, batch);
          if (!batch.isFull) continue;
          await run(batch);
          batch = new CopyBatch(this.area.fd, this.files.handle, description);
        }
        const last = run(batch);
        void Promise.allSettled(runs).then(() => spare.push(description.data));
        await last;
      }
    } finally {
      // Nothing may go on in a thread when the caller closes what it works on.
      await Promise.allSettled(described);
      await copying.settle();
    }
    await copying.done();
  }

  #stageMember(record: number, member: ReadyMember, batch: CopyBatch): void {
    const { id, headerBytes, dataBytes } = member;
    this.#sockets.delete(id);
    this.#sparse.delete(id);
    const segment = this.#place(id, headerBytes, dataBytes, true, false);
    batch.addReady(record, segment, this.area.offsetOf(segment), member);
  }

  /** Gives the entry a place and puts it into the batch; or into `links`, when another entry has its data. */
  #stage(described: Described, options: PassOptions, batch: CopyBatch, links: number[] | undefined): void {
    const { id, status } = described;
    if (status < 0) throw this.files.unreadable(id, -status);
    if (status !== 0) return this.#vacate(id);
    const type = typeOf(described);
    if (type === undefined) {
      this.#vacate(id);
      this.#sockets.add(id);
      this.#judge(id, described, options);
      return;
    }
    this.#sockets.delete(id);
    const carrier = type !== 'directory' && described.nlink > 1 ? this.#links.join(id, described.dev, described.ino) : id;
    if (carrier !== id && links !== undefined) {
      links.push(id);
      return;
    }
    const name = this.#memberName(described.path);
    const found = carrier === id ? entryOf(described, type, name) : linkOf(described, name, Buffer.from(this.memberNames(Uint32Array.of(carrier))[0] as string, 'latin1'));
    const entry = this.source.filter === undefined ? found : this.source.filter(found);
    if (entry === undefined) {
      this.#vacate(id);
      this.#judge(id, described, options);
      return;
    }
    const header = encodeHeader(entry);
    const isFile = entry.type === 'file';
    const ranges = isFile ? entry.data : undefined;
    const dataBytes = !isFile ? 0 : ranges === undefined ? entry.size : ranges.reduce((sum, { length }) => sum + length, 0);
    if (ranges === undefined) this.#sparse.delete(id);
    else this.#sparse.set(id, entry.size);
    const segment = this.#place(id, header.length, dataBytes, isFile, carrier !== id);
    batch.add({ id, segment, header, offset: this.area.offsetOf(segment), dataBytes, ranges, isFile, dataAt: isFile ? described.dataAt : -1, digest: described.digest, judge: () => this.#judge(id, described, options) });
  }

  /** The old place where the new copy fits; links always go to the end, behind what they link to. */
  #place(id: number, headerBytes: number, dataBytes: number, regular: boolean, isLink: boolean): number {
    const old = this.#segments.get(id) - 1;
    if (old >= 0 && !isLink && this.area.fits(old, headerBytes, dataBytes)) {
      this.area.reuse(old, headerBytes, dataBytes, regular);
      return old;
    }
    if (old >= 0) this.area.drop(old);
    const segment = this.area.append(id, headerBytes, dataBytes, regular);
    this.#segments.set(id, segment + 1);
    return segment;
  }

  async #run(batch: CopyBatch, description: Description, options: PassOptions): Promise<void> {
    if (batch.isEmpty) return;
    for (const result of await batch.run(options.hash)) this.#settle(result);
    for (const { id, record, segment } of batch.ready) {
      if (options.hash) this.area.setDigest(segment, description.digest(record));
      this.#judge(id, description.stamp(record), options);
    }
    options.onCopied(batch.files, batch.bytes);
  }

  #settle({ op, status, digest }: CopyResult): void {
    if (status < 0) throw this.files.unreadable(op.id, -status);
    if (status !== 0) return this.#vacate(op.id);
    if (digest !== undefined) this.area.setDigest(op.segment, digest);
    op.judge();
  }

  #judge(id: number, { ctimeMs, ino, fs }: Stamp, { trust }: PassOptions): void {
    const hopeless = trust !== undefined && (this.#notifies[fs] !== true || trust.isMapped(ino));
    const trusted = trust === undefined || (!hopeless && trust.isOld(ctimeMs));
    this.#flags.set(id, LIVE | (trusted ? TRUSTED : 0) | (hopeless ? HOPELESS : 0));
  }

  #add(id: number): void {
    this.#ids = Math.max(this.#ids, id + 1);
    this.#flags.set(id, LIVE);
  }

  #doubt(id: number): void {
    this.#flags.set(id, LIVE);
  }

  #remove(id: number): void {
    for (const link of this.#links.leave(id)) this.#doubt(link);
    this.#vacate(id);
    this.#flags.set(id, 0);
  }

  /** The entry has no copy (any more). */
  #vacate(id: number): void {
    const segment = this.#segments.get(id) - 1;
    if (segment >= 0) this.area.drop(segment);
    this.#segments.set(id, 0);
    this.#sockets.delete(id);
    this.#sparse.delete(id);
    this.#doubt(id);
  }

  /** These ids and all that were links to one of them. */
  #withLinks(ids: Uint32Array): Uint32Array {
    const more: number[] = [];
    const seen = new Set<number>();
    const leave = (id: number): void => {
      for (const link of this.#links.leave(id)) {
        seen.add(link);
        more.push(link);
        this.#doubt(link);
      }
    };
    for (const id of ids) leave(id);
    if (more.length === 0) return ids;
    for (const id of ids) seen.delete(id);
    return Uint32Array.from([...ids, ...seen]);
  }
}
