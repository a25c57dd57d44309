/** How many ranges are moved or hashed by one call: some hundred kilobytes of numbers. */
export const RANGES_PER_CALL = 16_384;

/** Ranges of a file for native/, adjacent ones joined: (offset, length) pairs, or (from, to, length) triples. */
export class RangeList {
  readonly #width: 2 | 3;
  readonly #chunks: Float64Array[] = [];
  /** The last chunk, and how many of its numbers are in use. */
  #last = new Float64Array();
  #used = 0;

  constructor(width: 2 | 3) {
    this.#width = width;
  }

  /** `offset` is the range's place; of a triple, `to` is its place in the other file. */
  add(offset: number, bytes: number, to = 0): void {
    if (bytes === 0) return;
    const width = this.#width;
    const previous = this.#used - width;
    const length = previous < 0 ? 0 : (this.#last[previous + width - 1] as number);
    if (previous >= 0 && this.#last[previous] === offset - length && (width === 2 || this.#last[previous + 1] === to - length)) {
      this.#last[previous + width - 1] = length + bytes;
      return;
    }
    if (this.#used === this.#last.length) {
      this.#chunks.push((this.#last = new Float64Array(RANGES_PER_CALL * width)));
      this.#used = 0;
    }
    this.#last[this.#used] = offset;
    if (width === 3) this.#last[this.#used + 1] = to;
    this.#last[this.#used + width - 1] = bytes;
    this.#used += width;
  }

  all(): Float64Array {
    const chunks = [...this.chunks()];
    const all = new Float64Array(chunks.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const chunk of chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    return all;
  }

  *chunks(): Generator<Float64Array> {
    for (const chunk of this.#chunks) yield chunk === this.#last ? chunk.subarray(0, this.#used) : chunk;
  }
}
