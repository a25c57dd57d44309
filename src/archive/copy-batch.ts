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
  readonly #ops: CopyOp[] = [];
  files = 0;
  bytes = 0;

  constructor(fd: number, tree: NativeTree) {
    this.#fd = fd;
    this.#tree = tree;
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
    if (op.isFile) this.files++;
  }

  /** @throws errno errors of the staging file */
  async run(hash: boolean): Promise<CopyResult[]> {
    const numbers: number[] = [];
    for (const { id, header, offset, dataBytes, ranges, isFile } of this.#ops) {
      numbers.push(id, header.length, offset, dataBytes, ranges?.length ?? 0, isFile ? 1 : 0);
      for (const { offset: at, length } of ranges ?? []) numbers.push(at, length);
    }
    const headers = Buffer.concat(this.#ops.map(({ header }) => header));
    const bytes = await native().copyBatch(this.#fd, this.#tree, Float64Array.from(numbers), headers, hash);
    const digests = bytes.subarray(this.#ops.length * 4);
    return this.#ops.map((op, i) => ({
      op,
      status: bytes.readInt32LE(i * 4),
      digest: hash && op.isFile && op.dataBytes <= SMALL_BYTES ? digests.subarray(i * 32, i * 32 + 32) : undefined,
    }));
  }
}
