import { native } from '../native.js';
import type { NativeTree } from '../native-files.js';
import type { Area } from './area.js';
import type { Room } from './description.js';
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
  /** Where the data is in the room's, or -1. */
  dataAt: number;
  /** To be called when the copy is good. */
  judge: () => void;
}

export interface CopyResult {
  op: CopyOp;
  /** 0; 1 gone; 2 changed; or a negative errno. */
  status: number;
}

/** Ready members that lie one after the other, where they are and where they go: they are written in one piece. */
export interface ReadyRun {
  /** Of the first in the room, and its segment; those of the others follow. */
  number: number;
  segment: number;
  count: number;
  at: number;
  offset: number;
  bytes: number;
}

/** Past this many bytes the next batch begins, so that several can be on their way. */
const BATCH_BYTES = 8 * 1024 * 1024;

const OP_NUMBERS = 7;
/** The kinds of native/copy.c. */
const HEADER = 0;
const FILE = 1;
const WHOLE = 2;

/** Entries that one native call writes to the staging file. */
export class CopyBatch {
  readonly #fd: number;
  readonly #tree: NativeTree;
  readonly #room: Room;
  readonly #ops: CopyOp[] = [];
  /** The members that need nothing but to be written. */
  readonly ready: ReadyRun[] = [];
  files = 0;
  bytes = 0;
  #headerBytes = 0;
  #numbers = 0;

  constructor(fd: number, tree: NativeTree, room: Room) {
    this.#fd = fd;
    this.#tree = tree;
    this.#room = room;
  }

  get isEmpty(): boolean {
    return this.#ops.length === 0 && this.ready.length === 0;
  }

  get isFull(): boolean {
    return this.bytes >= BATCH_BYTES;
  }

  add(op: CopyOp): void {
    this.#ops.push(op);
    this.bytes += op.dataBytes;
    this.#headerBytes += op.header.length;
    this.#numbers += OP_NUMBERS + 2 * (op.ranges?.length ?? 0);
    if (op.isFile) this.files++;
  }

  /** A ready member of the room, by its number there. */
  addReady(number: number, segment: number, area: Area): void {
    const at = this.#room.at(number);
    const offset = area.offsetOf(segment);
    const bytes = area.lengthOf(segment);
    const last = this.ready.at(-1);
    if (last !== undefined && last.number + last.count === number && last.segment + last.count === segment && last.at + last.bytes === at && last.offset + last.bytes === offset) {
      last.count++;
      last.bytes += bytes;
    } else {
      this.ready.push({ number, segment, count: 1, at, offset, bytes });
    }
    this.bytes += this.#room.dataBytes(number);
    this.files++;
  }

  /** What became of the entries that were not ready, and with `hash` a row of digests for each. @throws errno errors of the staging file */
  async run({ hash, ahead }: { hash: boolean; ahead: boolean }): Promise<{ results: CopyResult[]; digests: Buffer }> {
    const numbers = new Float64Array(this.#numbers + OP_NUMBERS * this.ready.length);
    let at = 0;
    for (const { id, header, offset, dataBytes, ranges, isFile, dataAt } of this.#ops) {
      numbers.set([id, header.length, offset, dataBytes, ranges?.length ?? 0, isFile ? FILE : HEADER, dataAt], at);
      at += OP_NUMBERS;
      for (const range of ranges ?? []) {
        numbers[at++] = range.offset;
        numbers[at++] = range.length;
      }
    }
    for (const run of this.ready) {
      numbers.set([0, 0, run.offset, run.bytes, 0, WHOLE, run.at], at);
      at += OP_NUMBERS;
    }
    const headers = Buffer.concat(this.#ops.map(({ header }) => header), this.#headerBytes);
    const bytes = await native().copyBatch(this.#fd, this.#tree, numbers, headers, this.#room.data, hash, ahead);
    return {
      results: this.#ops.map((op, i) => ({ op, status: bytes.readInt32LE(i * 4) })),
      digests: bytes.subarray((this.#ops.length + this.ready.length) * 4),
    };
  }
}
