import { BytesColumn, Column } from '../tables/column.js';
import { JobQueue } from '../../job-queue.js';
import { MEMBER_DIGESTS } from './description.js';
import { HashJob } from './hash-job.js';
import { Moves } from './range-moves.js';
import { takeTurns } from '../../yield-to-loop.js';
import { SHARED_BLOCK_BYTES, padding } from '../format/tar-encode.js';

/**
 * A part of a staging file that grows by segments: a segment is one member's header, data and padding. A
 * dropped segment leaves a hole until `compact` slides down what lies behind it. Segments stay in the
 * order in which they were made.
 */
export class Area {
  readonly fd: number;
  readonly start: number;
  /** Where the next segment goes. */
  end: number;
  /** How many segments there are, dropped ones included. */
  count = 0;
  readonly #offsets = new Column(Float64Array);
  readonly #dataBytes = new Column(Float64Array);
  readonly #headerBytes = new Column(Uint32Array);
  readonly #owners = new Column(Uint32Array);
  readonly #states = new Column(Uint8Array);
  readonly #digests = new BytesColumn(MEMBER_DIGESTS);
  /** Of segments that are at the end for now: where they belong. */
  readonly #homes = new Map<number, number>();

  constructor(fd: number, start = 0) {
    this.fd = fd;
    this.start = start;
    this.end = start;
  }

  /** A new segment at the end; its bytes are the caller's to write. */
  append(owner: number, headerBytes: number, dataBytes: number, regular: boolean): number {
    const segment = this.count++;
    this.#offsets.set(segment, this.end);
    this.#owners.set(segment, owner);
    this.end += headerBytes + dataBytes + padding(dataBytes);
    this.reuse(segment, headerBytes, dataBytes, regular);
    return segment;
  }

  /** Whether a member of this size can take the segment's place. */
  fits(segment: number, headerBytes: number, dataBytes: number): boolean {
    return this.lengthOf(segment) === headerBytes + dataBytes + padding(dataBytes);
  }

  reuse(segment: number, headerBytes: number, dataBytes: number, regular: boolean): void {
    this.#headerBytes.set(segment, headerBytes);
    this.#dataBytes.set(segment, dataBytes);
    this.#states.set(segment, LIVE | (regular ? REGULAR : 0));
  }

  /**
   * Puts a member that fits into the segment's place at the end for now, as far from the start of a page as it was: so
   * what is to be shared with another file goes where nothing is. To put it where something else has been costs the
   * more the more of that is in the kernel's cache.
   */
  putAtEnd(segment: number): void {
    if (this.#homes.has(segment)) return;
    const home = this.offsetOf(segment);
    this.#homes.set(segment, home);
    const offset = this.end + ((((home - this.end) % SHARED_BLOCK_BYTES) + SHARED_BLOCK_BYTES) % SHARED_BLOCK_BYTES);
    this.#offsets.set(segment, offset);
    this.end = offset + this.lengthOf(segment);
  }

  drop(segment: number): void {
    this.#homes.delete(segment);
    this.#states.set(segment, 0);
  }

  /** Two digests for each of so many members from this segment on, out of a table from this row on. */
  setDigests(segment: number, from: Buffer, row: number, count = 1): void {
    this.#digests.set(segment, from, row, count);
    for (let i = segment; i < segment + count; i++) this.#states.set(i, this.#states.get(i) | HASHED);
  }

  /** Two digests for each of the segments from `start` to `end`, copied to the front of `into`. */
  readDigests(start: number, end: number, into: Buffer): void {
    this.#digests.get(start, end, into);
  }

  isLive(segment: number): boolean {
    return (this.#states.get(segment) & LIVE) !== 0;
  }

  /** A live regular member: one that has a line in the list of hashes. */
  isRegular(segment: number): boolean {
    return (this.#states.get(segment) & REGULAR) !== 0;
  }

  isHashed(segment: number): boolean {
    return (this.#states.get(segment) & HASHED) !== 0;
  }

  offsetOf(segment: number): number {
    return this.#offsets.get(segment);
  }

  ownerOf(segment: number): number {
    return this.#owners.get(segment);
  }

  headerBytesOf(segment: number): number {
    return this.#headerBytes.get(segment);
  }

  dataBytesOf(segment: number): number {
    return this.#dataBytes.get(segment);
  }

  lengthOf(segment: number): number {
    const data = this.dataBytesOf(segment);
    return this.headerBytesOf(segment) + data + padding(data);
  }

  /**
   * Brings home what is at the end for now, then slides the live segments down over the holes. Costs as much as what
   * lies behind the first hole.
   */
  async compact(): Promise<void> {
    const moves = new Moves(this.fd, this.fd);
    // Data that begins on a page there and here can be shared, if it goes without its header.
    for (const part of ['header', 'data'] as const) {
      for (const [segment, home] of this.#homes) {
        if (moves.isFull) await moves.run();
        const headerBytes = this.headerBytesOf(segment);
        const [at, bytes] = part === 'header' ? [0, headerBytes] : [headerBytes, this.lengthOf(segment) - headerBytes];
        moves.add(this.offsetOf(segment) + at, home + at, bytes);
      }
      await moves.run();
    }
    for (const [segment, home] of this.#homes) this.#offsets.set(segment, home);
    this.#homes.clear();
    let to = this.start;
    let since = performance.now();
    for (let segment = 0; segment < this.count; segment++) {
      if (segment % TURN === 0) since = await takeTurns(since);
      if (!this.isLive(segment)) continue;
      const from = this.offsetOf(segment);
      const length = this.lengthOf(segment);
      if (from !== to) {
        if (moves.isFull) await moves.run();
        moves.add(from, to, length);
        this.#offsets.set(segment, to);
      }
      to += length;
    }
    await moves.run();
    this.end = to;
  }

  /** Copies the live segments into another file, `first` at the front, and returns the area that they are there. */
  async copyTo(fd: number, start: number, first: number): Promise<Area> {
    const copy = new Area(fd, start);
    const moves = new Moves(this.fd, fd);
    const digests = Buffer.alloc(MEMBER_DIGESTS);
    const take = (segment: number): void => {
      const to = copy.append(
        this.ownerOf(segment),
        this.headerBytesOf(segment),
        this.dataBytesOf(segment),
        this.isRegular(segment),
      );
      if (this.isHashed(segment)) {
        this.readDigests(segment, segment + 1, digests);
        copy.setDigests(to, digests, 0);
      }
      moves.add(this.offsetOf(segment), copy.offsetOf(to), this.lengthOf(segment));
    };
    take(first);
    let since = performance.now();
    for (let segment = 0; segment < this.count; segment++) {
      if (segment % TURN === 0) since = await takeTurns(since);
      if (moves.isFull) await moves.run();
      if (this.isLive(segment) && segment !== first) take(segment);
    }
    await moves.run();
    return copy;
  }

  /** Makes the digests of every member that has none yet. */
  async hashMembers(): Promise<void> {
    const hashing = new JobQueue(HASH_JOBS);
    const spare: HashJob[] = [];
    let job = new HashJob();
    const start = async (): Promise<void> => {
      const started = job;
      await hashing.add(started.run(this).then(() => void spare.push(started)));
      job = spare.pop() ?? new HashJob();
    };
    let since = performance.now();
    try {
      for (let segment = 0; segment < this.count; segment++) {
        if (segment % TURN === 0) since = await takeTurns(since);
        if (!this.isLive(segment) || this.isHashed(segment)) continue;
        job.add(this, segment);
        if (job.isFull) await start();
      }
      if (!job.isEmpty) await start();
    } finally {
      // Nothing may go on in a thread when the caller closes what it works on.
      await hashing.settle();
    }
    await hashing.done();
  }
}

/** So many segments are looked at before others get their turn. */
const TURN = 4096;

const LIVE = 1;
const REGULAR = 2;
const HASHED = 4;

/** Jobs at a time: more than libuv has threads brings nothing. */
const HASH_JOBS = 8;
