import { native } from '../native.js';
import { padding } from './tar.js';

/** How many ranges are moved or hashed by one call: some hundred kilobytes of numbers. */
const RANGES_PER_CALL = 16_384;

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
  #offsets = new Float64Array(256);
  #dataBytes = new Float64Array(256);
  #headerBytes = new Uint32Array(256);
  #owners = new Uint32Array(256);
  #states = new Uint8Array(256);
  #digests = Buffer.alloc(256 * 32);

  constructor(fd: number, start = 0) {
    this.fd = fd;
    this.start = start;
    this.end = start;
  }

  /** A new segment at the end; its bytes are the caller's to write. */
  append(owner: number, headerBytes: number, dataBytes: number, regular: boolean): number {
    if (this.count === this.#states.length) this.#grow();
    const segment = this.count++;
    this.#offsets[segment] = this.end;
    this.#owners[segment] = owner;
    this.end += headerBytes + dataBytes + padding(dataBytes);
    this.reuse(segment, headerBytes, dataBytes, regular);
    return segment;
  }

  /** Whether a member of this size can take the segment's place. */
  fits(segment: number, headerBytes: number, dataBytes: number): boolean {
    return this.lengthOf(segment) === headerBytes + dataBytes + padding(dataBytes);
  }

  reuse(segment: number, headerBytes: number, dataBytes: number, regular: boolean): void {
    this.#headerBytes[segment] = headerBytes;
    this.#dataBytes[segment] = dataBytes;
    this.#states[segment] = LIVE | (regular ? REGULAR : 0);
  }

  drop(segment: number): void {
    this.#states[segment] = 0;
  }

  setDigest(segment: number, digest: Uint8Array): void {
    this.#digests.set(digest, segment * 32);
    this.#states[segment] = (this.#states[segment] as number) | HASHED;
  }

  digestOf(segment: number): Buffer {
    return this.#digests.subarray(segment * 32, segment * 32 + 32);
  }

  isLive(segment: number): boolean {
    return ((this.#states[segment] as number) & LIVE) !== 0;
  }

  /** A live regular member: one that has a line in the list of hashes. */
  isRegular(segment: number): boolean {
    return ((this.#states[segment] as number) & REGULAR) !== 0;
  }

  isHashed(segment: number): boolean {
    return ((this.#states[segment] as number) & HASHED) !== 0;
  }

  offsetOf(segment: number): number {
    return this.#offsets[segment] as number;
  }

  ownerOf(segment: number): number {
    return this.#owners[segment] as number;
  }

  headerBytesOf(segment: number): number {
    return this.#headerBytes[segment] as number;
  }

  dataBytesOf(segment: number): number {
    return this.#dataBytes[segment] as number;
  }

  lengthOf(segment: number): number {
    const data = this.dataBytesOf(segment);
    return this.headerBytesOf(segment) + data + padding(data);
  }

  /** Slides the live segments down over the holes. Costs as much as what lies behind the first hole. */
  async compact(): Promise<void> {
    const moves = new RangeList(3);
    let to = this.start;
    for (let segment = 0; segment < this.count; segment++) {
      if (!this.isLive(segment)) continue;
      const from = this.offsetOf(segment);
      const length = this.lengthOf(segment);
      if (from !== to) moves.add(from, length, to);
      this.#offsets[segment] = to;
      to += length;
    }
    for (const triples of moves.chunks()) await native().moveRanges(this.fd, this.fd, triples);
    this.end = to;
  }

  /** Copies the live segments into another file, `first` at the front, and returns the area that they are there. */
  async copyTo(fd: number, start: number, first: number): Promise<Area> {
    const copy = new Area(fd, start);
    const moves = new RangeList(3);
    const take = (segment: number): void => {
      const to = copy.append(this.ownerOf(segment), this.headerBytesOf(segment), this.dataBytesOf(segment), this.isRegular(segment));
      if (this.isHashed(segment)) copy.setDigest(to, this.digestOf(segment));
      moves.add(this.offsetOf(segment), this.lengthOf(segment), copy.offsetOf(to));
    };
    take(first);
    for (let segment = 0; segment < this.count; segment++) if (this.isLive(segment) && segment !== first) take(segment);
    for (const triples of moves.chunks()) await native().moveRanges(this.fd, fd, triples);
    return copy;
  }

  /** Hashes the data of every regular member that has no digest yet. */
  async hashMembers(): Promise<void> {
    let segments: number[] = [];
    let bytes = 0;
    const jobs: Promise<void>[] = [];
    const start = (): void => {
      jobs.push(this.#hash(segments));
      segments = [];
      bytes = 0;
    };
    for (let segment = 0; segment < this.count; segment++) {
      if (!this.isRegular(segment) || this.isHashed(segment)) continue;
      segments.push(segment);
      bytes += this.dataBytesOf(segment);
      if (bytes >= HASH_JOB_BYTES || segments.length === RANGES_PER_CALL) start();
      if (jobs.length === HASH_JOBS) await Promise.all(jobs.splice(0));
    }
    if (segments.length > 0) start();
    await Promise.all(jobs);
  }

  async #hash(segments: readonly number[]): Promise<void> {
    const ranges = Float64Array.from(segments.flatMap((s) => [this.offsetOf(s) + this.headerBytesOf(s), this.dataBytesOf(s)]));
    const digests = await native().hashRanges(this.fd, ranges, true);
    segments.forEach((segment, i) => this.setDigest(segment, digests.subarray(i * 32, i * 32 + 32)));
  }

  #grow(): void {
    const room = this.#states.length * 2;
    const into = <T extends Float64Array | Uint32Array | Uint8Array>(grown: T, old: T): T => (grown.set(old as never), grown);
    this.#offsets = into(new Float64Array(room), this.#offsets);
    this.#dataBytes = into(new Float64Array(room), this.#dataBytes);
    this.#headerBytes = into(new Uint32Array(room), this.#headerBytes);
    this.#owners = into(new Uint32Array(room), this.#owners);
    this.#states = into(new Uint8Array(room), this.#states);
    this.#digests = Buffer.concat([this.#digests], room * 32);
  }
}

const LIVE = 1;
const REGULAR = 2;
const HASHED = 4;

const HASH_JOB_BYTES = 32 * 1024 * 1024;
/** Jobs at a time: more than libuv has threads brings nothing. */
const HASH_JOBS = 8;

/** Ranges of a file for native/, adjacent ones joined: (offset, length) pairs, or (from, to, length) triples. */
export class RangeList {
  readonly #width: 2 | 3;
  readonly #numbers: number[] = [];

  constructor(width: 2 | 3) {
    this.#width = width;
  }

  /** `offset` is the range's place; of a triple, the other file's place comes second. */
  add(offset: number, bytes: number, to = 0): void {
    if (bytes === 0) return;
    const numbers = this.#numbers;
    const last = numbers.length - this.#width;
    const joined = last < 0 ? 0 : (numbers.at(-1) as number);
    const follows = last >= 0 && numbers[last] === offset - joined && (this.#width === 2 || numbers[last + 1] === to - joined);
    if (follows) numbers[numbers.length - 1] = joined + bytes;
    else if (this.#width === 2) numbers.push(offset, bytes);
    else numbers.push(offset, to, bytes);
  }

  all(): Float64Array {
    return Float64Array.from(this.#numbers);
  }

  *chunks(): Generator<Float64Array> {
    const step = RANGES_PER_CALL * this.#width;
    for (let at = 0; at < this.#numbers.length; at += step) yield Float64Array.from(this.#numbers.slice(at, at + step));
  }
}

