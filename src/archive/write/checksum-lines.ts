import { native } from '../../native.js';
import { LINE_MORE_BYTES } from '../format/manifest.js';
import { MEMBER_DIGESTS } from '../members/description.js';
import type { StagedTree } from './staged-tree.js';

/** So many segments' lines are made by one call or a few, a millisecond's work in a thread. */
const SEGMENTS = 2048;
/** Room for the lines of so many with names of usual length. */
const ROOM_BYTES = 256 * 1024;
/** Of the longest line without its prefix: a digest, and a path of 64 KiB of which each byte is escaped. */
const MAX_LINE_BYTES = LINE_MORE_BYTES + 2 * 65_536;

/** A part of the list of hashes, made ahead in a thread, in memory that goes round from part to part. */
export class MemberLines {
  readonly #owners = new Uint32Array(SEGMENTS);
  readonly #rows = new Uint32Array(SEGMENTS);
  readonly #digests = Buffer.allocUnsafeSlow(SEGMENTS * MEMBER_DIGESTS);
  #into = Buffer.allocUnsafeSlow(ROOM_BYTES);
  #tree: StagedTree | undefined;
  #count = 0;
  #done = 0;
  #job: Promise<[done: number, bytes: number]> | undefined;

  /** Begins with the segments from this one on; adds what they are to `totals`, and returns the segment after them. */
  start(tree: StagedTree, from: number, totals: { members: number; bytes: number }): number {
    const { area } = tree;
    const end = Math.min(area.count, from + SEGMENTS);
    this.#tree = tree;
    this.#count = this.#done = 0;
    for (let segment = from; segment < end; segment++) {
      if (!area.isRegular(segment)) continue;
      this.#owners[this.#count] = area.ownerOf(segment);
      this.#rows[this.#count++] = segment - from;
      totals.bytes += area.dataBytesOf(segment);
    }
    totals.members += this.#count;
    area.readDigests(from, end, this.#digests);
    const longest = MAX_LINE_BYTES + 2 * tree.prefix.length;
    if (this.#into.length < longest) this.#into = Buffer.allocUnsafeSlow(longest);
    this.#next();
    return end;
  }

  /** The lines; each piece is to be used before the next is asked for. */
  async *pieces(): AsyncGenerator<Buffer> {
    for (;;) {
      const [done, bytes] = (await this.#job) ?? [0, 0];
      yield this.#into.subarray(0, bytes);
      this.#done += done;
      if (this.#done === this.#count) return;
      this.#next();
    }
  }

  /** Nothing goes on in a thread any more. */
  async settle(): Promise<void> {
    await Promise.allSettled([this.#job]);
  }

  #next(): void {
    const { files, prefix } = this.#tree as StagedTree;
    const [owners, rows] = [
      this.#owners.subarray(this.#done, this.#count),
      this.#rows.subarray(this.#done, this.#count),
    ];
    this.#job = native().memberLines(files.handle, prefix, owners, rows, this.#digests, this.#into);
    this.#job.catch(() => undefined); // it is awaited in its turn
  }
}
