/** Rows of one piece. A table grows by pieces: it is never copied, and never twice as large as it must be. */
const PIECE_BITS = 14;
const PIECE_MASK = (1 << PIECE_BITS) - 1;

type Numbers = Float64Array | Int32Array | Uint32Array | Uint8Array;

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

const DIGEST_BYTES = 32;

/** SHA-256 by row. */
export class Digests {
  readonly #pieces: Buffer[] = [];

  /** The digest itself, not a copy. */
  get(row: number): Buffer {
    const at = (row & PIECE_MASK) * DIGEST_BYTES;
    return (this.#pieces[row >>> PIECE_BITS] as Buffer).subarray(at, at + DIGEST_BYTES);
  }

  hex(row: number): string {
    const at = (row & PIECE_MASK) * DIGEST_BYTES;
    return (this.#pieces[row >>> PIECE_BITS] as Buffer).toString('hex', at, at + DIGEST_BYTES);
  }

  set(row: number, digest: Uint8Array): void {
    const piece = row >>> PIECE_BITS;
    while (this.#pieces.length <= piece) this.#pieces.push(Buffer.alloc(DIGEST_BYTES << PIECE_BITS));
    (this.#pieces[piece] as Buffer).set(digest, (row & PIECE_MASK) * DIGEST_BYTES);
  }
}
