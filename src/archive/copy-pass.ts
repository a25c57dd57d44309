import type { Copies } from './copies.js';
import { CopyBatch, type CopyResult } from './copy-batch.js';
import { CopyQueue } from './copy-queue.js';
import { entryOf, linkOf, typeOf } from './describe-entry.js';
import { Room, type Described, type Description } from './description.js';
import type { Entry, EntryType } from './entry.js';
import type { StagedTree } from './staged-tree.js';
import { encodeHeader, storedSize } from './tar.js';
import type { PassTrust } from './trust.js';

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
}

/** So many calls describe at the same time, and are ahead of what is being copied. */
const DESCRIBE_AHEAD = 2;

/** Entries that have been described, and the room that holds what was read of them. */
interface Described512 {
  description: Description;
  room: Room;
}

/** One pass over entries of a tree: they are described, given a place in the area, and copied there. */
export class CopyPass {
  readonly #tree: StagedTree;
  readonly #copies: Copies;
  readonly #notifies: readonly boolean[];
  readonly #options: PassOptions;
  #latestChangeMs = -Infinity;

  constructor(tree: StagedTree, copies: Copies, notifies: readonly boolean[], options: PassOptions) {
    this.#tree = tree;
    this.#copies = copies;
    this.#notifies = notifies;
    this.#options = options;
  }

  /** Resolves with the latest change time of any of them, in milliseconds. */
  async run(): Promise<number> {
    await this.#copyAll(this.#copies.pending(this.#options), true);
    await this.#copyAll(this.#copies.takeDeferred(), false);
    return this.#latestChangeMs;
  }

  async #copyAll(pieces: AsyncGenerator<Uint32Array>, deferLinks: boolean): Promise<void> {
    const copying = new CopyQueue();
    const spare: Room[] = [];
    // While entries are placed and copied, the next ones are described.
    const described: Promise<Described512>[] = [];
    let ids: Uint32Array = new Uint32Array();
    let next = 0;
    const describe = async (): Promise<void> => {
      if (next >= ids.length) {
        ids = ((await pieces.next()).value as Uint32Array | undefined) ?? ids.subarray(0, 0);
        next = 0;
      }
      if (ids.length === 0) return;
      const room = spare.pop() ?? new Room();
      const count = room.fit(this.#tree.files.handle, ids, next);
      const description = this.#describe(ids.subarray(next, (next += count)), room);
      description.catch(() => undefined); // it is awaited in its turn
      described.push(description);
    };
    try {
      for (let i = 0; i < DESCRIBE_AHEAD; i++) await describe();
      for (let current = described.shift(); current !== undefined; current = described.shift()) {
        const { description, room } = await current;
        await describe();
        const copies: Promise<void>[] = [];
        for (const batch of this.#batches(description, room, deferLinks)) {
          const copy = this.#copy(batch, room);
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

  async #describe(ids: Uint32Array, room: Room): Promise<Described512> {
    // A filter wants to see every entry: then no member is made without it.
    const prefix = this.#tree.source.filter === undefined ? this.#tree.prefix : undefined;
    return { description: await room.describe(this.#tree.files.handle, ids, { hash: this.#options.hash, prefix }), room };
  }

  /** All of the entries, in their order and each with its place. */
  *#batches(description: Description, room: Room, deferLinks: boolean): Generator<CopyBatch> {
    let batch = this.#newBatch(room);
    let placed = 0;
    for (const { entry, readyBefore } of description.entries()) {
      for (; placed < readyBefore; placed++) this.#placeReady(placed, room, batch);
      this.#place(entry, batch, deferLinks);
      if (!batch.isFull) continue;
      yield batch;
      batch = this.#newBatch(room);
    }
    for (; placed < description.ready; placed++) this.#placeReady(placed, room, batch);
    if (!batch.isEmpty) yield batch;
  }

  #newBatch(room: Room): CopyBatch {
    return new CopyBatch(this.#copies.area.fd, this.#tree.files.handle, room);
  }

  #placeReady(number: number, room: Room, batch: CopyBatch): void {
    const id = room.id(number);
    if (this.#copies.sockets.size > 0) this.#copies.sockets.delete(id);
    this.#copies.setApparent(id, 0);
    const segment = this.#copies.place(id, room.headerBytes(number), room.dataBytes(number), true, false);
    batch.addReady(number, segment, this.#copies.area);
  }

  /** Gives the entry a place and puts it into the batch; or keeps it for later, when another entry has its data. */
  #place(described: Described, batch: CopyBatch, deferLinks: boolean): void {
    const { id, status } = described;
    if (status < 0) throw this.#tree.files.unreadable(id, -status);
    if (status !== 0) return this.#copies.vacate(id);
    const type = typeOf(described);
    if (type === undefined) {
      this.#copies.vacate(id);
      this.#copies.sockets.add(id);
      this.#judge(id, described);
      return;
    }
    this.#copies.sockets.delete(id);
    const carrier = type !== 'directory' && described.nlink > 1 ? this.#copies.links.join(id, described.dev, described.ino) : id;
    if (carrier !== id && deferLinks) {
      this.#copies.defer(id);
      return;
    }
    const entry = this.#entryOf(described, type, carrier);
    if (entry === undefined) {
      this.#copies.vacate(id);
      this.#judge(id, described);
      return;
    }
    const header = encodeHeader(entry);
    const isFile = entry.type === 'file';
    const ranges = isFile ? entry.data : undefined;
    const dataBytes = storedSize(entry);
    this.#copies.setApparent(id, ranges === undefined ? 0 : entry.size);
    const segment = this.#copies.place(id, header.length, dataBytes, isFile, carrier !== id);
    const offset = this.#copies.area.offsetOf(segment);
    batch.add({ id, segment, header, offset, dataBytes, ranges, isFile, dataAt: isFile ? described.dataAt : -1, judge: () => this.#judge(id, described) });
  }

  /** The member that it becomes; undefined when it is filtered out. */
  #entryOf(described: Described, type: EntryType, carrier: number): Entry | undefined {
    const { source, files } = this.#tree;
    const name = this.#tree.memberName(described.path);
    const entry = carrier === described.id ? entryOf(described, type, name) : linkOf(described, name, this.#tree.memberName(files.paths(Uint32Array.of(carrier))[0] as Buffer));
    return source.filter === undefined ? entry : source.filter(entry);
  }

  async #copy(batch: CopyBatch, room: Room): Promise<void> {
    const { area } = this.#copies;
    const { digests, results } = await batch.run(this.#options);
    results.forEach((result, row) => this.#settle(result, digests, row));
    for (const { number: first, segment, count } of batch.ready) {
      if (this.#options.hash) area.setDigests(segment, room.digests, first, count);
      for (let number = first; number < first + count; number++) this.#judge(room.id(number), { fs: room.fs(number), ctimeMs: room.ctimeMs(number) }, () => room.ino(number));
    }
    this.#options.onCopied(batch.files, batch.bytes);
  }

  #settle({ op, status }: CopyResult, digests: Buffer, row: number): void {
    if (status < 0) throw this.#tree.files.unreadable(op.id, -status);
    if (status !== 0) return this.#copies.vacate(op.id);
    if (this.#options.hash) this.#copies.area.setDigests(op.segment, digests, row);
    op.judge();
  }

  #judge(id: number, stamp: { fs: number; ctimeMs: number; ino?: bigint }, ino: () => bigint = () => stamp.ino as bigint): void {
    const { trust } = this.#options;
    this.#latestChangeMs = Math.max(this.#latestChangeMs, stamp.ctimeMs);
    const isMapped = trust?.hasMapped === true && trust.isMapped(ino());
    this.#copies.judge(id, trust, { ctimeMs: stamp.ctimeMs, isMapped, notifies: this.#notifies[stamp.fs] === true });
  }
}
