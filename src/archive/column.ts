import { MEMBER_DIGESTS } from './description.js';

/** Rows of one piece. A table grows by pieces: it is never copied, and never twice as large as it must be. */
const PIECE_BITS = 14;
const PIECE_MASK = (1 << PIECE_BITS) - 1;

type Numbers = Float64Array | Uint32Array | Uint8Array;

/** Numbers by row; rows that were never set are 0. */
export class Column {
  readonly #pieces: Numbers[] = [];
  readonly #Piece: new (length: number) => Numbers;

  constructor(Piece: new (length: number) => Numbers) {
    this.#Piece = Piece;
  }

  get(row: number): number {
    return this.#pieces[row >>> PIECE_BITS]?.[row & PIECE_MASK] ?? 0;
  }

  set(row: number, value: number): void {
    const piece = row >>> PIECE_BITS;
    while (this.#pieces.length <= piece) this.#pieces.push(new this.#Piece(1 << PIECE_BITS));
    (this.#pieces[piece] as Numbers)[row & PIECE_MASK] = value;
  }
}

/** By row two SHA-256: of a member's headers with its padding, and of its data. */
export class DigestColumn {
  readonly #pieces: Buffer[] = [];

  /** Takes so many rows from `from`, which has as many in each. */
  set(row: number, from: Buffer, fromRow: number, count: number): void {
    for (let left = count; left > 0; ) {
      const piece = row >>> PIECE_BITS;
      while (this.#pieces.length <= piece) this.#pieces.push(Buffer.alloc(MEMBER_DIGESTS << PIECE_BITS));
      const first = row & PIECE_MASK;
      const rows = Math.min(left, PIECE_MASK + 1 - first);
      from.copy(this.#pieces[piece] as Buffer, first * MEMBER_DIGESTS, fromRow * MEMBER_DIGESTS, (fromRow + rows) * MEMBER_DIGESTS);
      row += rows;
      fromRow += rows;
      left -= rows;
    }
  }

  /** The rows from `start` on that lie side by side, up to `end`, as one buffer; not a copy. */
  span(start: number, end: number): { digests: Buffer; end: number } {
    const first = start & PIECE_MASK;
    const rows = Math.min(end - start, PIECE_MASK + 1 - first);
    const piece = this.#pieces[start >>> PIECE_BITS] ?? Buffer.alloc(MEMBER_DIGESTS << PIECE_BITS);
    return { digests: piece.subarray(first * MEMBER_DIGESTS, (first + rows) * MEMBER_DIGESTS), end: start + rows };
  }
}
