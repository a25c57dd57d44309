/** So many rows have their memory together. */
const ROW_BITS = 12;
const ROWS = 1 << ROW_BITS;
const ROW_MASK = ROWS - 1;

type Numbers = Float64Array | Uint32Array | Uint8Array;

/**
 * Numbers by row; rows that were never set are 0. It grows by pieces and is never copied, which would take twice its
 * memory and hold the event loop; a piece in which nothing was set takes none.
 */
export class Column {
  readonly #pieces: (Numbers | undefined)[] = [];
  readonly #Numbers: new (length: number) => Numbers;

  constructor(Numbers: new (length: number) => Numbers) {
    this.#Numbers = Numbers;
  }

  get(row: number): number {
    return this.#pieces[row >>> ROW_BITS]?.[row & ROW_MASK] ?? 0;
  }

  set(row: number, value: number): void {
    const piece = (this.#pieces[row >>> ROW_BITS] ??= new this.#Numbers(ROWS));
    piece[row & ROW_MASK] = value;
  }
}

/** Bytes by row, as many in each. */
export class BytesColumn {
  readonly #pieces: (Uint8Array | undefined)[] = [];
  readonly #rowBytes: number;

  constructor(rowBytes: number) {
    this.#rowBytes = rowBytes;
  }

  /** Takes so many rows from `from`, beginning with its row `fromRow`. */
  set(row: number, from: Uint8Array, fromRow: number, count: number): void {
    const { bytes, source } = { bytes: this.#rowBytes, source: fromRow * this.#rowBytes };
    for (const { piece, first, rows, at } of partsOf(row, row + count)) {
      const into = (this.#pieces[piece] ??= new Uint8Array(ROWS * bytes));
      into.set(from.subarray(source + at * bytes, source + (at + rows) * bytes), first * bytes);
    }
  }

  /** The rows from `start` to `end`, into the front of `into`. */
  get(start: number, end: number, into: Uint8Array): void {
    const bytes = this.#rowBytes;
    for (const { piece, first, rows, at } of partsOf(start, end)) {
      const from = this.#pieces[piece];
      if (from === undefined) into.fill(0, at * bytes, (at + rows) * bytes);
      else into.set(from.subarray(first * bytes, (first + rows) * bytes), at * bytes);
    }
  }
}

/** By piece: the first row there, how many there are, and how many came before. */
function* partsOf(start: number, end: number): Generator<{ piece: number; first: number; rows: number; at: number }> {
  for (let row = start, rows; row < end; row += rows) {
    const first = row & ROW_MASK;
    rows = Math.min(end - row, ROWS - first);
    yield { piece: row >>> ROW_BITS, first, rows, at: row - start };
  }
}
