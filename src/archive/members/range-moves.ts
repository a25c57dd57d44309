import { native } from '../../native.js';

/** So many ranges are moved by one call: some hundred kilobytes of numbers. */
const RANGES_PER_CALL = 16_384;

/** Ranges on their way from one file into another, or downwards within one; adjacent ones are joined. */
export class Moves {
  readonly #from: number;
  readonly #to: number;
  readonly #triples = new Float64Array(RANGES_PER_CALL * 3);
  #used = 0;

  constructor(fromFd: number, toFd: number) {
    this.#from = fromFd;
    this.#to = toFd;
  }

  /** When it is full the next range has no room: `run` must come before. */
  get isFull(): boolean {
    return this.#used === this.#triples.length;
  }

  add(from: number, to: number, bytes: number): void {
    const triples = this.#triples;
    const last = this.#used - 3;
    const length = last < 0 ? 0 : (triples[last + 2] as number);
    if (last >= 0 && triples[last] === from - length && triples[last + 1] === to - length) {
      triples[last + 2] = length + bytes;
      return;
    }
    triples[this.#used++] = from;
    triples[this.#used++] = to;
    triples[this.#used++] = bytes;
  }

  /** Moves what was added. */
  async run(): Promise<void> {
    const triples = this.#triples.subarray(0, this.#used);
    this.#used = 0;
    if (triples.length > 0) await native().moveRanges(this.#from, this.#to, triples);
  }
}
