import type { Copies } from './copy-states.js';
import { CopyBatch } from '../members/copy-batch.js';
import { ArchiveError } from '../format/archive-error.js';
import { MAX_NAME_BYTES } from '../format/names.js';
import { JobQueue } from '../../job-queue.js';
import { entryOf, linkOf, typeOf } from '../members/describe-entry.js';
import { IDS, Room, type Described, type Description, type Stamps } from '../members/description.js';
import type { Entry, EntryType } from '../format/entry.js';
import { takeTurns } from '../../yield-to-loop.js';
import { encodeHeader, storedSize } from '../format/tar-encode.js';
import type { PassTrust } from '../scan/copy-trust.js';
import type { ScannedTree } from '../scan/scanned-tree.js';

/** How a pass copies. */
export interface PassOptions {
  /** Undefined when the files stand still: then whatever was copied well is good. */
  trust?: PassTrust;
  /** Leave out what cannot have a good copy now. */
  hopeful: boolean;
  /** Hash while it is in memory; inside the window there is no time for it. */
  hash: boolean;
  /** Begin to write to disk what has been copied; inside the window CRIU needs the disk. */
  ahead: boolean;
  /** For every batch copied. It may throw to end the pass. */
  onCopied: (files: number, bytes: number) => void;
  /** Ends the pass, also where a file system holds it up. */
  signal?: AbortSignal | undefined;
}

/** What is known of a file system on which files of a tree are. */
export interface KnownFileSystem {
  /** Whether a copy of a file that is in use can be believed. */
  notifies: boolean;
  /** Whether a copy that begins on a page can be made by reference. */
  shares: boolean;
}

/** Less is copied as fast as the kernel would write back what is shared. */
const SHARED_BYTES = 8 * 1024 * 1024;
/** So many calls describe at the same time, and are ahead of what is being copied. */
const DESCRIBE_AHEAD = 2;
/** So many batches are copied at the same time. */
const COPIES = 3;
/**
 * So many entries are described by the first calls: what places them is not compiled yet, and would hold the event loop
 * with more.
 */
const FIRST_IDS = 64;

/** Entries that have been described, and the room that holds what was read of them. */
interface DescribedRoom {
  description: Description;
  room: Room;
}

/** What a pass has to know of the tree whose entries it copies. */
export interface CopiedTree {
  readonly source: { filter?: ((entry: Entry) => Entry | undefined) | undefined };
  /** Of the names of all members but the root's. */
  readonly prefix: Buffer;
  readonly files: ScannedTree;
  /** The name in the archive, of a path below the root. */
  memberName(path: Buffer): Buffer;
}

/** One pass over entries of a tree: they are described, given a place in the area, and copied there. */
export class CopyPass {
  readonly #tree: CopiedTree;
  readonly #copies: Copies;
  readonly #fileSystems: readonly KnownFileSystem[];
  readonly #options: PassOptions;
  /** Batches that are done with. */
  readonly #spare: CopyBatch[] = [];
  #latestChangeMs = -Infinity;

  constructor(tree: CopiedTree, copies: Copies, fileSystems: readonly KnownFileSystem[], options: PassOptions) {
    this.#tree = tree;
    this.#copies = copies;
    this.#fileSystems = fileSystems;
    this.#options = options;
  }

  /** Resolves with the latest change time of any of them, in milliseconds. */
  async run(): Promise<number> {
    await this.#copyAll(this.#copies.pending(this.#options), true);
    await this.#copyAll(this.#copies.takeDeferred(), false);
    return this.#latestChangeMs;
  }

  async #copyAll(pieces: AsyncGenerator<Uint32Array>, deferLinks: boolean): Promise<void> {
    const copying = new JobQueue(COPIES);
    const spare: Room[] = [];
    // While entries are placed and copied, the next ones are described.
    const described: Promise<DescribedRoom>[] = [];
    let ids: Uint32Array = new Uint32Array();
    let next = 0;
    let atOnce = FIRST_IDS;
    let since = performance.now();
    const describe = async (): Promise<void> => {
      if (next >= ids.length) {
        ids = ((await pieces.next()).value as Uint32Array | undefined) ?? ids.subarray(0, 0);
        next = 0;
      }
      if (ids.length === 0) return;
      const room = spare.pop() ?? new Room();
      const description = this.#describe(ids.subarray(next, (next += atOnce)), room, deferLinks);
      description.catch(() => undefined); // it is awaited in its turn
      described.push(description);
    };
    try {
      for (let i = 0; i < DESCRIBE_AHEAD; i++) await describe();
      for (let current = described.shift(); current !== undefined; current = described.shift()) {
        const { description, room } = await current;
        // As many as had room lately: those without are read once more when they are copied.
        atOnce =
          description.unread > 0
            ? Math.max(1, description.count - description.unread)
            : Math.min(IDS, atOnce + 1 + (atOnce >> 3));
        since = await takeTurns(since);
        await describe();
        const copies: Promise<void>[] = [];
        for (const batch of this.#batches(description, room, deferLinks)) {
          const copy = this.#copy(batch);
          copies.push(copy);
          await copying.add(copy);
        }
        void Promise.allSettled(copies).then(() => spare.push(room));
      }
    } finally {
      // Nothing may go on in a thread when the caller closes what it works on.
      await Promise.allSettled(described);
      await copying.settle();
    }
    await copying.done();
  }

  async #describe(ids: Uint32Array, room: Room, deferLinks: boolean): Promise<DescribedRoom> {
    // A filter wants to see every entry: then no member is made without it.
    const prefix = this.#tree.source.filter === undefined ? this.#tree.prefix : undefined;
    const { hash, signal } = this.#options;
    // What is a link names what it is a link to.
    const others = deferLinks ? undefined : ids.map((id) => this.#copies.links.carrierOf(id));
    return {
      description: await room.describe(this.#tree.files.handle, ids, { hash, prefix, others, signal }),
      room,
    };
  }

  /** All of the entries, in their order and each with its place. */
  *#batches(description: Description, room: Room, deferLinks: boolean): Generator<CopyBatch> {
    let batch = this.#newBatch(description, room);
    let placed = 0;
    for (const record of description.records()) {
      for (const before = description.readyBefore(record); placed < before; placed++) this.#placeReady(placed, batch);
      this.#place(record, batch, deferLinks);
      if (!batch.isFull) continue;
      yield batch;
      batch = this.#newBatch(description, room);
    }
    for (; placed < description.ready; placed++) this.#placeReady(placed, batch);
    if (batch.isEmpty) this.#spare.push(batch);
    else yield batch;
  }

  #newBatch(description: Description, room: Room): CopyBatch {
    return (this.#spare.pop() ?? new CopyBatch(this.#copies.area.fd, this.#tree.files.handle)).begin(description, room);
  }

  #placeReady(number: number, batch: CopyBatch): void {
    const { room } = batch;
    const id = room.id(number);
    if (this.#copies.sockets.size > 0) this.#copies.sockets.delete(id);
    this.#copies.setApparent(id, 0);
    const segment = this.#copies.place(id, room.headerBytes(number), room.dataBytes(number), true, false);
    batch.addReady(number, segment, this.#copies.area);
  }

  /** Gives the entry a place and puts it into the batch; or keeps it for later, when another entry has its data. */
  #place(record: number, batch: CopyBatch, deferLinks: boolean): void {
    const described = batch.description.entry(record);
    const { id, status } = described;
    if (status < 0) throw this.#tree.files.unreadable(id, -status);
    if (status !== 0) return this.#copies.vacate(id);
    const type = typeOf(described);
    if (type === undefined) {
      this.#copies.vacate(id);
      this.#copies.sockets.add(id);
      this.#judge(batch.description, record);
      return;
    }
    this.#copies.sockets.delete(id);
    const carrier =
      type !== 'directory' && described.nlink > 1 ? this.#copies.links.join(id, described.dev, described.ino) : id;
    if (carrier !== id && deferLinks) {
      this.#copies.defer(id);
      return;
    }
    const entry = this.#entryOf(described, type, carrier);
    if (entry === undefined) {
      this.#copies.vacate(id);
      this.#judge(batch.description, record);
      return;
    }
    const isFile = entry.type === 'file';
    const ranges = isFile ? entry.data : undefined;
    const dataBytes = storedSize(entry);
    const isShared =
      dataBytes >= SHARED_BYTES && ranges === undefined && this.#fileSystems[described.fs]?.shares === true;
    const headerBytesAt = (offset: number): number => encodeHeader(entry, undefined, offset).length;
    const shared = isShared
      ? { offset: this.#copies.offsetFor(id, dataBytes, headerBytesAt), byReference: !this.#options.ahead }
      : undefined;
    const headerBytes = encodeHeader(entry, batch.takeHeader, shared?.offset).length;
    this.#copies.setApparent(id, ranges === undefined ? 0 : entry.size);
    const segment = this.#copies.place(id, headerBytes, dataBytes, isFile, carrier !== id, shared);
    const offset = this.#copies.area.offsetOf(segment);
    batch.add({
      id,
      record,
      segment,
      headerBytes,
      offset,
      dataBytes,
      ranges,
      isFile,
      dataAt: isFile ? described.dataAt : -1,
    });
  }

  /** The member that it becomes; undefined when it is filtered out. */
  #entryOf(described: Described, type: EntryType, carrier: number): Entry | undefined {
    const { source, files } = this.#tree;
    const name = this.#tree.memberName(described.path);
    // A reader refuses it: better now than when the tree has been ended.
    if (name.length > MAX_NAME_BYTES)
      throw new ArchiveError('ENTRY_UNREPRESENTABLE', {
        member: `${name.toString('latin1', 0, 80)}…`,
        what: `its name has ${name.length} bytes, and ${MAX_NAME_BYTES} are the most`,
      });
    const target = (): Buffer => (carrier === described.other ? described.otherPath : files.pathOf(carrier));
    const entry =
      carrier === described.id
        ? entryOf(described, type, name)
        : linkOf(described, name, this.#tree.memberName(target()));
    return source.filter === undefined ? entry : source.filter(entry);
  }

  async #copy(batch: CopyBatch): Promise<void> {
    await batch.run(this.#options);
    for (const { first, ready, segment, status, digests, row } of batch.results()) {
      if (ready > 0) this.#settleReady(batch.room, first, ready, segment);
      else this.#settle(batch.description, first, segment, status, digests, row);
    }
    const { files, bytes } = batch;
    this.#spare.push(batch);
    this.#options.onCopied(files, bytes);
  }

  #settleReady(room: Room, first: number, count: number, segment: number): void {
    if (this.#options.hash) this.#copies.area.setDigests(segment, room.digests, first, count);
    for (let number = first; number < first + count; number++) this.#judge(room, number);
  }

  #settle(
    description: Description,
    record: number,
    segment: number,
    status: number,
    digests: Buffer,
    row: number,
  ): void {
    const id = description.id(record);
    if (status < 0) throw this.#tree.files.unreadable(id, -status);
    if (status !== 0) return this.#copies.vacate(id);
    if (this.#options.hash) this.#copies.area.setDigests(segment, digests, row);
    this.#judge(description, record);
  }

  #judge(stamps: Stamps, i: number): void {
    const { trust } = this.#options;
    const ctimeMs = stamps.ctimeMs(i);
    this.#latestChangeMs = Math.max(this.#latestChangeMs, ctimeMs);
    const isMapped = trust?.hasMapped === true && trust.isMapped(stamps.ino(i));
    this.#copies.judge(stamps.id(i), trust, {
      ctimeMs,
      isMapped,
      notifies: this.#fileSystems[stamps.fs(i)]?.notifies === true,
    });
  }
}
