import { MEMBER_DIGESTS } from '../members/description.js';
import { PAGE_BYTES, type Numbers, type NumbersType, type Page, type Scratch } from './page-file.js';

/** A table in pages, which come and go. It grows by pages: it is never copied. */
class Table {
  /** By page; undefined while it is not in memory, or was never written to. */
  protected readonly numbers: (Numbers | undefined)[] = [];
  readonly #pages: (Page | undefined)[] = [];
  readonly #scratch: Scratch;
  readonly #Numbers: NumbersType;

  constructor(scratch: Scratch, Numbers: NumbersType) {
    this.#scratch = scratch;
    this.#Numbers = Numbers;
  }

  /** Undefined for a page that was never written to. */
  protected read(number: number): Numbers | undefined {
    const page = this.#pages[number];
    return page === undefined ? undefined : (this.numbers[number] ?? this.#scratch.bring(page));
  }

  /** The page, to be written to at once. */
  protected write(number: number): Numbers {
    let page = this.#pages[number];
    if (page === undefined) {
      for (let next = this.#pages.length; next <= number; next++) this.#pages[next] = this.numbers[next] = undefined;
      this.#pages[number] = page = {
        Numbers: this.#Numbers,
        table: this.numbers,
        number,
        dirty: false,
        place: undefined,
      };
    }
    const numbers = this.numbers[number] ?? this.#scratch.bring(page);
    page.dirty = true;
    return numbers;
  }
}

/** Numbers by row; rows that were never set are 0. */
export class Column extends Table {
  /** Of a row: its page, and its place there. */
  readonly #bits: number;
  readonly #mask: number;

  constructor(scratch: Scratch, Numbers: NumbersType) {
    super(scratch, Numbers);
    this.#bits = Math.log2(PAGE_BYTES / Numbers.BYTES_PER_ELEMENT);
    this.#mask = (1 << this.#bits) - 1;
  }

  get(row: number): number {
    const page = row >>> this.#bits;
    const numbers = this.numbers[page] ?? this.read(page);
    return numbers === undefined ? 0 : (numbers[row & this.#mask] as number);
  }

  set(row: number, value: number): void {
    this.write(row >>> this.#bits)[row & this.#mask] = value;
  }
}

const DIGEST_BITS = Math.log2(PAGE_BYTES / MEMBER_DIGESTS);
const DIGEST_MASK = (1 << DIGEST_BITS) - 1;

/** By row two SHA-256: of a member's headers with its padding, and of its data. */
export class DigestColumn extends Table {
  constructor(scratch: Scratch) {
    super(scratch, Uint8Array);
  }

  /** Takes so many rows from `from`, which has as many in each. */
  set(row: number, from: Uint8Array, fromRow: number, count: number): void {
    for (const { page, first, rows, at } of piecesOf(row, row + count)) {
      const source = from.subarray((fromRow + at) * MEMBER_DIGESTS, (fromRow + at + rows) * MEMBER_DIGESTS);
      (this.write(page) as Uint8Array).set(source, first * MEMBER_DIGESTS);
    }
  }

  /** The rows from `start` to `end`, into the front of `into`. */
  get(start: number, end: number, into: Uint8Array): void {
    for (const { page, first, rows, at } of piecesOf(start, end)) {
      const numbers = this.read(page) as Uint8Array | undefined;
      if (numbers === undefined) into.fill(0, at * MEMBER_DIGESTS, (at + rows) * MEMBER_DIGESTS);
      else into.set(numbers.subarray(first * MEMBER_DIGESTS, (first + rows) * MEMBER_DIGESTS), at * MEMBER_DIGESTS);
    }
  }
}

/** By page: the first row there, how many there are, and how many came before. */
function* piecesOf(start: number, end: number): Generator<{ page: number; first: number; rows: number; at: number }> {
  for (let row = start, rows; row < end; row += rows) {
    const first = row & DIGEST_MASK;
    rows = Math.min(end - row, DIGEST_MASK + 1 - first);
    yield { page: row >>> DIGEST_BITS, first, rows, at: row - start };
  }
}
