import { native } from '../../native.js';
import type { NativeTree } from '../../native-files.js';
import type { Area } from './segments.js';
import { IDS, MEMBER_DIGESTS, type Description, type Room } from './description.js';
import type { ByteRange } from '../format/entry.js';
import { unlessHeldUp } from '../scan/unless-held-up.js';

/** A member of which header and data are to be written; the header's bytes come from `takeHeader`. */
export interface CopyOp {
  id: number;
  /** Of the entry in the description. */
  record: number;
  segment: number;
  headerBytes: number;
  /** Of the header, in the staging file. */
  offset: number;
  dataBytes: number;
  ranges: readonly ByteRange[] | undefined;
  isFile: boolean;
  /** Where the data is in the room's, or -1. */
  dataAt: number;
}

/** Past this many bytes the next batch begins, so that several can be on their way. */
const BATCH_BYTES = 8 * 1024 * 1024;
/**
 * For headers, and for numbers. When three quarters are used the next batch begins; what one odd entry needs beyond
 * that is let go again.
 */
const HEADER_ROOM = 768 * 1024;
const NUMBERS_ROOM = 8192;
const FULL = 0.75;

/** Of native/archive/copy.c: `struct op`, */
const OP_NUMBERS = 7;
const OFFSET = 2;
const BYTES = 3;
const AT = 6;
/** and its kinds. */
const HEADER = 0;
const FILE = 1;
const WHOLE = 2;

/**
 * Entries that one native call writes to the staging file. What is known of them is in tables, and these go round from
 * batch to batch: objects that live as long as a batch takes would fill a heap before its collector thinks of them.
 */
export class CopyBatch {
  readonly #fd: number;
  readonly #tree: NativeTree;
  #room: Room | undefined;
  #description: Description | undefined;
  #headers = Buffer.allocUnsafeSlow(HEADER_ROOM);
  #numbers = new Float64Array(NUMBERS_ROOM);
  #headersUsed = 0;
  #numbersUsed = 0;
  /** How many operations there are. By operation: */
  #count = 0;
  /**
   * the entry's record; or, of ready members that lie one after the other and are written in one piece, the number of
   * the first.
   */
  readonly #first = new Uint32Array(IDS);
  /** How many ready members; 0 for an entry that is not. */
  readonly #ready = new Uint32Array(IDS);
  /** The (first) segment. */
  readonly #segments = new Uint32Array(IDS);
  readonly #status = new Int32Array(IDS);
  readonly #digests = Buffer.allocUnsafeSlow(IDS * MEMBER_DIGESTS);
  files = 0;
  bytes = 0;

  constructor(fd: number, tree: NativeTree) {
    this.#fd = fd;
    this.#tree = tree;
  }

  /** Empties the batch, for entries of this description, which is in the room. */
  begin(description: Description, room: Room): this {
    [this.#description, this.#room] = [description, room];
    this.#count = this.#headersUsed = this.#numbersUsed = this.files = this.bytes = 0;
    if (this.#headers.length > HEADER_ROOM) this.#headers = Buffer.allocUnsafeSlow(HEADER_ROOM);
    if (this.#numbers.length > NUMBERS_ROOM) this.#numbers = new Float64Array(NUMBERS_ROOM);
    return this;
  }

  get room(): Room {
    return this.#room as Room;
  }

  get description(): Description {
    return this.#description as Description;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  get isFull(): boolean {
    return (
      this.bytes >= BATCH_BYTES || this.#headersUsed >= HEADER_ROOM * FULL || this.#numbersUsed >= NUMBERS_ROOM * FULL
    );
  }

  /** Memory for the header of the entry that is added next. */
  readonly takeHeader = (bytes: number): Buffer => {
    const end = this.#headersUsed + bytes;
    if (end > this.#headers.length) {
      const larger = Buffer.allocUnsafeSlow(2 * end);
      this.#headers.copy(larger, 0, 0, this.#headersUsed);
      this.#headers = larger;
    }
    return this.#headers.subarray(this.#headersUsed, end);
  };

  add({ id, record, segment, headerBytes, offset, dataBytes, ranges, isFile, dataAt }: CopyOp): void {
    let at = this.#append(record, 0, segment, OP_NUMBERS + 2 * (ranges?.length ?? 0));
    for (const number of [id, headerBytes, offset, dataBytes, ranges?.length ?? 0, isFile ? FILE : HEADER, dataAt])
      this.#numbers[at++] = number;
    for (const range of ranges ?? []) {
      this.#numbers[at++] = range.offset;
      this.#numbers[at++] = range.length;
    }
    this.#headersUsed += headerBytes;
    this.bytes += dataBytes;
    if (isFile) this.files++;
  }

  /** A ready member of the room, by its number there. */
  addReady(number: number, segment: number, area: Area): void {
    const at = this.room.at(number);
    const offset = area.offsetOf(segment);
    const bytes = area.lengthOf(segment);
    this.bytes += this.room.dataBytes(number);
    this.files++;
    const [last, numbers] = [this.#count - 1, this.#numbers];
    const run = last < 0 ? 0 : (this.#ready[last] as number);
    if (run > 0 && this.#first[last] === number - run && this.#segments[last] === segment - run) {
      const op = this.#numbersUsed - OP_NUMBERS;
      const length = numbers[op + BYTES] as number;
      if (numbers[op + OFFSET] === offset - length && numbers[op + AT] === at - length) {
        this.#ready[last] = run + 1;
        numbers[op + BYTES] = length + bytes;
        return;
      }
    }
    const op = this.#append(number, 1, segment, OP_NUMBERS);
    [0, 0, offset, bytes, 0, WHOLE, at].forEach((value, i) => (this.#numbers[op + i] = value));
  }

  /** Writes all of it. @throws errno errors of the staging file */
  async run({
    hash,
    ahead,
    signal,
  }: {
    hash: boolean;
    ahead: boolean;
    signal?: AbortSignal | undefined;
  }): Promise<void> {
    const numbers = this.#numbers.subarray(0, this.#numbersUsed);
    const headers = this.#headers.subarray(0, this.#headersUsed);
    const copying = native().copyBatch(
      this.#fd,
      this.#tree,
      numbers,
      headers,
      this.room.data,
      this.#status,
      this.#digests,
      hash,
      ahead,
    );
    await unlessHeldUp(this.#tree, copying, signal);
  }

  /**
   * What became of each: its status (0; 1 gone; 2 changed; or a negative errno) and digests; or so many `ready`
   * members, the first of which has this number.
   */
  *results(): Generator<{
    first: number;
    ready: number;
    segment: number;
    status: number;
    digests: Buffer;
    row: number;
  }> {
    for (let i = 0; i < this.#count; i++) {
      yield {
        first: this.#first[i] as number,
        ready: this.#ready[i] as number,
        segment: this.#segments[i] as number,
        status: this.#status[i] as number,
        digests: this.#digests,
        row: i,
      };
    }
  }

  /** A new operation; returns where its numbers go. */
  #append(first: number, ready: number, segment: number, count: number): number {
    const at = this.#numbersUsed;
    this.#numbersUsed += count;
    if (this.#numbersUsed > this.#numbers.length) {
      const larger = new Float64Array(2 * this.#numbersUsed);
      larger.set(this.#numbers.subarray(0, at));
      this.#numbers = larger;
    }
    this.#first[this.#count] = first;
    this.#ready[this.#count] = ready;
    this.#segments[this.#count++] = segment;
    return at;
  }
}
