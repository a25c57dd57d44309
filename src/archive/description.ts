import type { ByteRange, Xattr } from './entry.js';
import { padding } from './tar.js';

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
  xattrs: Xattr[];
  /** Where the data lies; undefined for a file without holes. */
  data: ByteRange[] | undefined;
  /** Where a small file's contents are in `Description.data`; -1 when they were not read. */
  dataAt: number;
  /** Of these contents, where it was asked for. */
  digest: Buffer;
}

/** What tells whether a copy made while the files are in use can be believed. */
export interface Stamp {
  /** Index into `ScanResult.fileSystems`. */
  fs: number;
  ino: bigint;
  /** In milliseconds, exact to a microsecond. */
  ctimeMs: number;
}

/** A small file with nothing odd about it: its member is in `Description.data` as it goes into the archive. */
export interface ReadyMember {
  id: number;
  at: number;
  headerBytes: number;
  dataBytes: number;
  /** With header and padding. */
  bytes: number;
}

/** `struct record` of native/describe.c, in words; then doubles; then an inode number and a digest. */
const DOUBLES_AT = 80;
const INO_AT = 112;
const DIGEST_AT = 120;
const RECORD_BYTES = 152;
const HOLDS_DATA = 1;
const HOLDS_MEMBER = 2;

/** What native/describe.c says of entries. A record is known by where it is; most need no object of their own. */
export class Description {
  /** Contents of small files, and whole members. */
  readonly data: Buffer;
  readonly #bytes: Buffer;
  readonly #words: Uint32Array;
  readonly #doubles: Float64Array;

  constructor(records: Buffer, data: Buffer) {
    this.data = data;
    this.#bytes = records;
    this.#words = new Uint32Array(records.buffer, records.byteOffset, records.length >> 2);
    this.#doubles = new Float64Array(records.buffer, records.byteOffset, records.length >> 3);
  }

  *records(): Generator<number> {
    for (let record = 0; record < this.#bytes.length; record += this.#word(record, 0)) yield record;
  }

  /** Undefined for what takes more thought: `entry` tells all of it. */
  member(record: number): ReadyMember | undefined {
    if (this.#word(record, 2) !== 0 || this.#word(record, 17) !== HOLDS_MEMBER) return undefined;
    const headerBytes = this.#word(record, 18);
    const dataBytes = this.#double(record, 0);
    return { id: this.#word(record, 1), at: this.#double(record, 3), headerBytes, dataBytes, bytes: headerBytes + dataBytes + padding(dataBytes) };
  }

  stamp(record: number): Stamp {
    return { fs: this.#word(record, 7), ino: this.#bytes.readBigUInt64LE(record + INO_AT), ctimeMs: this.#double(record, 2) * 1000 + this.#word(record, 11) / 1e6 };
  }

  digest(record: number): Buffer {
    return this.#bytes.subarray(record + DIGEST_AT, record + RECORD_BYTES);
  }

  entry(record: number): Described {
    const bytes = this.#bytes;
    const w = (i: number): number => this.#word(record, i);
    const nRanges = w(15);
    let next = record + RECORD_BYTES + nRanges * 16;
    const path = bytes.subarray(next, (next += w(12)));
    const link = bytes.subarray(next, (next += w(13)));
    const xattrs: Xattr[] = [];
    for (let i = w(14); i > 0; i--) {
      const nameBytes = bytes.readUInt32LE(next);
      const valueBytes = bytes.readUInt32LE(next + 4);
      next += 8;
      xattrs.push({ name: bytes.subarray(next, next + nameBytes), value: bytes.subarray(next + nameBytes, next + nameBytes + valueBytes) });
      next += nameBytes + valueBytes;
    }
    return {
      ...this.stamp(record),
      id: w(1),
      status: w(2) | 0,
      mode: w(3),
      uid: w(4),
      gid: w(5),
      nlink: w(6),
      dev: w(8),
      rdevMajor: w(9) >>> 20,
      rdevMinor: w(9) & 0xfffff,
      size: this.#double(record, 0),
      mtimeNs: BigInt(this.#double(record, 1)) * 1_000_000_000n + BigInt(w(10)),
      path,
      link,
      xattrs,
      data: w(16) === 1 ? Array.from({ length: nRanges }, (_, i) => this.#range(record, i)) : undefined,
      dataAt: w(17) === HOLDS_DATA ? this.#double(record, 3) : -1,
      digest: this.digest(record),
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
