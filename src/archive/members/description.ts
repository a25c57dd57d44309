import { native } from '../../native.js';
import type { NativeTree } from '../../native-files.js';
import type { ByteRange, Xattr } from '../format/entry.js';
import { unlessHeldUp } from '../scan/unless-held-up.js';

/** An entry with all that an archive says of it. */
export interface Described extends Stamp {
  id: number;
  /** 0; GONE; UNSETTLED (it kept changing); or a negative errno. */
  status: number;
  /** With the file type. */
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  dev: number;
  rdevMajor: number;
  rdevMinor: number;
  size: number;
  mtimeNs: bigint;
  /** Below the root; empty for the root itself. */
  path: Buffer;
  link: Buffer;
  /** The other entry that was asked for with it, and its path; itself and empty where none was. */
  other: number;
  otherPath: Buffer;
  xattrs: Xattr[];
  /** Where the data lies; undefined for a file without holes. */
  data: ByteRange[] | undefined;
  /** Where a small file's contents are in the room's `data`; -1 when they were not read. */
  dataAt: number;
}

/** What tells whether a copy made while the files are in use can be believed. */
export interface Stamp {
  /** Index into `ScanResult.fileSystems`. */
  fs: number;
  ino: bigint;
  /** In milliseconds, exact to a microsecond. */
  ctimeMs: number;
}

/** Stamps of entries, by a number that is theirs there. */
export interface Stamps {
  id(i: number): number;
  fs(i: number): number;
  ctimeMs(i: number): number;
  ino(i: number): bigint;
}

/** So many entries are described by one call, */
export const IDS = 512;
/** with so much of small files' contents. */
const DATA_BYTES = 2 * 1024 * 1024;

/** `struct ready` of native/archive/describe.c: in words, in doubles and in inode numbers. */
const READY_BYTES = 40;
const READY_WORDS = READY_BYTES / 4;
const READY_DOUBLES = READY_BYTES / 8;

/** Of header with padding, and of data. */
export const MEMBER_DIGESTS = 64;

/** For the records of so many entries with nothing odd about them; those of others are in memory of their own. */
const RECORDS_BYTES = 256 * 1024;

/**
 * Room for what one call reads: rooms go round, since fresh ones would cost a page fault for every 4 kB. Small files
 * with nothing odd about them are ready members: header, data and padding are in `data` as they go into the archive.
 */
export class Room implements Stamps {
  readonly data: Buffer;
  /** A pair for each ready member, where they were asked for. */
  readonly digests = Buffer.allocUnsafeSlow(IDS * MEMBER_DIGESTS);
  readonly #ready = Buffer.allocUnsafeSlow(IDS * READY_BYTES);
  readonly #words = new Uint32Array(this.#ready.buffer);
  readonly #doubles = new Float64Array(this.#ready.buffer);
  readonly #inos = new BigUint64Array(this.#ready.buffer);
  readonly #records = Buffer.allocUnsafeSlow(RECORDS_BYTES);

  constructor(dataBytes = DATA_BYTES) {
    this.data = Buffer.allocUnsafeSlow(dataBytes);
  }

  /**
   * Describes them all, in their order. With a `prefix` for their names some are ready members. `others`: for each an
   * entry whose path is wanted, too, or the entry itself.
   */
  async describe(
    tree: NativeTree,
    ids: Uint32Array,
    options: {
      hash: boolean;
      prefix: Buffer | undefined;
      others?: Uint32Array | undefined;
      signal?: AbortSignal | undefined;
    },
  ): Promise<Description> {
    const describing = native().treeDescribe(
      tree,
      ids,
      options.hash,
      this.data,
      this.#ready,
      this.digests,
      this.#records,
      options.prefix,
      options.others,
    );
    const records = await unlessHeldUp(tree, describing, options.signal);
    return new Description(typeof records === 'number' ? this.#records.subarray(0, records) : records, ids.length);
  }

  // Of the ready member of this number:

  id(i: number): number {
    return this.#words[i * READY_WORDS] as number;
  }

  headerBytes(i: number): number {
    return this.#words[i * READY_WORDS + 1] as number;
  }

  dataBytes(i: number): number {
    return this.#words[i * READY_WORDS + 2] as number;
  }

  fs(i: number): number {
    return this.#words[i * READY_WORDS + 3] as number;
  }

  /** Where it begins in `data`. */
  at(i: number): number {
    return this.#doubles[i * READY_DOUBLES + 2] as number;
  }

  ctimeMs(i: number): number {
    return this.#doubles[i * READY_DOUBLES + 3] as number;
  }

  ino(i: number): bigint {
    return this.#inos[i * READY_DOUBLES + 4] as bigint;
  }
}

/** `struct record` of native/archive/describe.c: in words, then doubles, then an inode number. */
const FIRST_RECORD = 8;
const DOUBLES_AT = 80;
const INO_AT = 112;
const RECORD_BYTES = 120;

/**
 * The entries that take more thought than the ready members among which they lie; each has a record, known by its
 * place.
 */
export class Description implements Stamps {
  /** How many entries were described, ready ones included. */
  readonly count: number;
  /** How many members are ready, in all. */
  readonly ready: number;
  /** For how many small files' contents there was no room. */
  readonly unread: number;
  readonly #bytes: Buffer;
  readonly #words: Uint32Array;
  readonly #doubles: Float64Array;

  constructor(bytes: Buffer, count: number) {
    this.count = count;
    this.#bytes = bytes;
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
    this.#doubles = new Float64Array(bytes.buffer, bytes.byteOffset, bytes.length >> 3);
    this.ready = this.#words[0] as number;
    this.unread = this.#words[1] as number;
  }

  /** The places of all records. */
  *records(): Generator<number> {
    for (let record = FIRST_RECORD; record < this.#bytes.length; record += this.#word(record, 0)) yield record;
  }

  /** How many ready members come before it. */
  readyBefore(record: number): number {
    return this.#word(record, 16);
  }

  id(record: number): number {
    return this.#word(record, 1);
  }

  fs(record: number): number {
    return this.#word(record, 7);
  }

  ctimeMs(record: number): number {
    return this.#double(record, 2);
  }

  ino(record: number): bigint {
    return this.#bytes.readBigUInt64LE(record + INO_AT);
  }

  /** Made of the record's bytes: to be used before the room describes anything else. */
  entry(record: number): Described {
    const bytes = this.#bytes;
    const w = (i: number): number => this.#word(record, i);
    const nRanges = w(14);
    let next = record + RECORD_BYTES + nRanges * 16;
    const path = bytes.subarray(next, (next += w(11)));
    const otherPath = bytes.subarray(next, (next += w(18)));
    const link = bytes.subarray(next, (next += w(12)));
    const xattrs: Xattr[] = [];
    for (let i = w(13); i > 0; i--) {
      const nameBytes = bytes.readUInt32LE(next);
      const valueBytes = bytes.readUInt32LE(next + 4);
      next += 8;
      xattrs.push({
        name: bytes.subarray(next, next + nameBytes),
        value: bytes.subarray(next + nameBytes, next + nameBytes + valueBytes),
      });
      next += nameBytes + valueBytes;
    }
    return {
      id: this.id(record),
      status: w(2) | 0,
      mode: w(3),
      uid: w(4),
      gid: w(5),
      nlink: w(6),
      fs: this.fs(record),
      dev: w(8),
      rdevMajor: w(9) >>> 20,
      rdevMinor: w(9) & 0xfffff,
      size: this.#double(record, 0),
      mtimeNs: BigInt(this.#double(record, 1)) * 1_000_000_000n + BigInt(w(10)),
      ctimeMs: this.ctimeMs(record),
      dataAt: this.#double(record, 3),
      ino: this.ino(record),
      path,
      link,
      other: w(17),
      otherPath,
      xattrs,
      data: w(15) === 1 ? Array.from({ length: nRanges }, (_, i) => this.#range(record, i)) : undefined,
    };
  }

  #range(record: number, i: number): ByteRange {
    const first = (record + RECORD_BYTES) / 8 + 2 * i;
    return { offset: this.#doubles[first] as number, length: this.#doubles[first + 1] as number };
  }

  #word(record: number, i: number): number {
    return this.#words[record / 4 + i] as number;
  }

  #double(record: number, i: number): number {
    return this.#doubles[(record + DOUBLES_AT) / 8 + i] as number;
  }
}
