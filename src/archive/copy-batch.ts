import { native } from '../native.js';
import type { NativeTree } from '../native-files.js';
import type { Description, ReadyMember } from './description.js';
import type { ByteRange } from './entry.js';

export interface CopyOp {
  id: number;
  segment: number;
  header: Buffer;
  /** Of the header, in the staging file. */
  offset: number;
  dataBytes: number;
  ranges: readonly ByteRange[] | undefined;
  isFile: boolean;
  /** Where the data is in the description's, or -1; and its digest. */
  dataAt: number;
  digest: Buffer;
  /** To be called when the copy is good. */
  judge: () => void;
}

export interface CopyResult {
  op: CopyOp;
  /** 0; 1 gone; 2 changed; or a negative errno. */
  status: number;
  /** Of the data, where it was asked for. */
  digest: Buffer | undefined;
}

/** Members that lie one after the other, where they are and where they go: they are written in one piece. */
interface Run {
  at: number;
  offset: number;
  bytes: number;
}

/** Past this many bytes the next batch begins, so that several can be on their way. */
const BATCH_BYTES = 8 * 1024 * 1024;
const BATCH_OPS = 512;

const OP_NUMBERS = 7;

/** Entries that one native call writes to the staging file. */
export class CopyBatch {
  readonly #fd: number;
  readonly #tree: NativeTree;
  readonly #description: Description;
  readonly #ops: CopyOp[] = [];
  readonly #runs: Run[] = [];
  /** Records and segments of the members that need nothing but to be written. */
  readonly ready: { id: number; record: number; segment: number }[] = [];
  files = 0;
  bytes = 0;
  #headerBytes = 0;
  #numbers = 0;

  constructor(fd: number, tree: NativeTree, description: Description) {
    this.#fd = fd;
    this.#tree = tree;
    this.#description = description;
  }

  get isEmpty(): boolean {
    return this.#ops.length === 0 && this.#runs.length === 0;
  }

  get isFull(): boolean {
    return this.bytes >= BATCH_BYTES || this.#ops.length >= BATCH_OPS;
  }

  add(op: CopyOp): void {
    this.#ops.push(op);
    this.bytes += op.dataBytes;
    this.#headerBytes += op.header.length;
    this.#numbers += OP_NUMBERS + 2 * (op.ranges?.length ?? 0);
    if (op.isFile) this.files++;
  }

  addReady(record: number, segment: number, offset: number, { id, at, bytes, dataBytes }: ReadyMember): void {
    const last = this.#runs.at(-1);
    if (last !== undefined && last.at + last.bytes === at && last.offset + last.bytes === offset) last.bytes += bytes;
    else this.#runs.push({ at, offset, bytes });
    this.ready.push({ id, record, segment });
    this.bytes += dataBytes;
    this.files++;
  }

  /** What became of the entries that were not ready. @throws errno errors of the staging file */
  async run(hash: boolean): Promise<CopyResult[]> {
    const numbers = new Float64Array(this.#numbers + OP_NUMBERS * this.#runs.length);
    let at = 0;
    for (const { id, header, offset, dataBytes, ranges, isFile, dataAt } of this.#ops) {
      numbers.set([id, header.length, offset, dataBytes, ranges?.length ?? 0, isFile ? 1 : 0, dataAt], at);
      at += OP_NUMBERS;
      for (const range of ranges ?? []) {
        numbers[at++] = range.offset;
        numbers[at++] = range.length;
      }
    }
    for (const run of this.#runs) {
      numbers.set([0, 0, run.offset, run.bytes, 0, 1, run.at], at);
      at += OP_NUMBERS;
    }
    const headers = Buffer.concat(this.#ops.map(({ header }) => header), this.#headerBytes);
    const bytes = await native().copyBatch(this.#fd, this.#tree, numbers, headers, this.#description.data, hash);
    const digests = bytes.subarray((this.#ops.length + this.#runs.length) * 4);
    return this.#ops.map((op, i) => ({
      op,
      status: bytes.readInt32LE(i * 4),
      digest: !hash || !op.isFile ? undefined : op.dataAt >= 0 ? op.digest : digests.subarray(i * 32, i * 32 + 32),
    }));
  }
}
