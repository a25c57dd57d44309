import { native } from '../native.js';
import type { NativeTree } from '../native-files.js';
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
  /** Where the data is in the batch's records, or -1. */
  inlineAt: number;
  /** To be called when the copy is good. */
  judge: () => void;
}

export interface CopyResult {
  op: CopyOp;
  /** 0; 1 gone; 2 changed; or a negative errno. */
  status: number;
  /** Of the data of a file small enough to be hashed in passing. */
  digest: Buffer | undefined;
}

/** Past this many bytes the next batch begins, so that several can be on their way. */
const BATCH_BYTES = 8 * 1024 * 1024;
const BATCH_OPS = 512;

/** As in native/copy.c: files up to this size are hashed in passing. */
const SMALL_BYTES = 128 * 1024;

/** Entries that one native call writes to the staging file. */
export class CopyBatch {
  readonly #fd: number;
  readonly #tree: NativeTree;
  readonly #records: Buffer;
  readonly #ops: CopyOp[] = [];
  files = 0;
  bytes = 0;
  #headerBytes = 0;
  #numbers = 0;

  constructor(fd: number, tree: NativeTree, records: Buffer) {
    this.#fd = fd;
    this.#tree = tree;
    this.#records = records;
  }

  get isEmpty(): boolean {
    return this.#ops.length === 0;
  }

  get isFull(): boolean {
    return this.bytes >= BATCH_BYTES || this.#ops.length >= BATCH_OPS;
  }

  add(op: CopyOp): void {
    this.#ops.push(op);
    this.bytes += op.dataBytes;
    this.#headerBytes += op.header.length;
    this.#numbers += 7 + 2 * (op.ranges?.length ?? 0);
    if (op.isFile) this.files++;
  }

  /** @throws errno errors of the staging file */
  async run(hash: boolean): Promise<CopyResult[]> {
    const numbers = new Float64Array(this.#numbers);
    const headers = takeBuffer(this.#headerBytes);
    let at = 0;
    let headerAt = 0;
    for (const { id, header, offset, dataBytes, ranges, isFile, inlineAt } of this.#ops) {
      header.copy(headers, headerAt);
      headerAt += header.length;
      numbers[at++] = id;
      numbers[at++] = header.length;
      numbers[at++] = offset;
      numbers[at++] = dataBytes;
      numbers[at++] = ranges?.length ?? 0;
      numbers[at++] = isFile ? 1 : 0;
      numbers[at++] = inlineAt;
      for (const range of ranges ?? []) {
        numbers[at++] = range.offset;
        numbers[at++] = range.length;
      }
    }
    const bytes = await native().copyBatch(this.#fd, this.#tree, numbers, headers, this.#records, hash);
    giveBuffer(headers);
    const digests = bytes.subarray(this.#ops.length * 4);
    return this.#ops.map((op, i) => ({
      op,
      status: bytes.readInt32LE(i * 4),
      digest: this.#digestOf(op, hash, digests.subarray(i * 32, i * 32 + 32)),
    }));
  }

  #digestOf(op: CopyOp, hash: boolean, copied: Buffer): Buffer | undefined {
    if (!hash || !op.isFile) return undefined;
    if (op.inlineAt >= 0) return this.#records.subarray(op.inlineAt + op.dataBytes, op.inlineAt + op.dataBytes + 32);
    return op.dataBytes <= SMALL_BYTES ? copied : undefined;
  }
}

/** A few buffers for headers go round: a fresh one costs more in page faults than its contents in copying. */
const spare: Buffer[] = [];

function takeBuffer(bytes: number): Buffer {
  const buffer = spare.pop();
  return buffer !== undefined && buffer.buffer.byteLength >= bytes ? Buffer.from(buffer.buffer, 0, bytes) : Buffer.from(new ArrayBuffer(Math.max(bytes, HEADERS_BYTES)), 0, bytes);
}

function giveBuffer(buffer: Buffer): void {
  if (spare.length < 4 && buffer.buffer.byteLength === HEADERS_BYTES) spare.push(buffer);
}

const HEADERS_BYTES = 1024 * 1024;
