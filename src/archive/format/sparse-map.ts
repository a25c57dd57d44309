import type { ByteRange } from './entry.js';
import { paxNumber } from './pax.js';
import { BLOCK_BYTES, MAX_MAP_BYTES } from './tar-encode.js';

/**
 * The map of a sparse file in GNU's format 1.0, block by block: how many ranges there are, then offset and length of
 * each, in decimal digits, each on a line of its own. It comes before the file's data, and tar counts it as data.
 */
export class SparseMap {
  readonly ranges: ByteRange[] = [];
  /** Of the map, so far. */
  bytes = 0;
  readonly #fileBytes: number;
  readonly #archivedBytes: number;
  #rest = '';
  /** How many ranges are still to come; undefined before the first number, which says it. */
  #left: number | undefined;
  /** The offset whose length comes next. */
  #offset: number | undefined;

  /** @param archivedBytes Of the map and the data together. */
  constructor(fileBytes: number, archivedBytes: number) {
    this.#fileBytes = fileBytes;
    this.#archivedBytes = archivedBytes;
  }

  get isWhole(): boolean {
    return this.#left === 0;
  }

  /** Returns what is wrong with the map, if anything is. */
  add(block: Buffer): string | undefined {
    this.bytes += BLOCK_BYTES;
    if (this.bytes > this.#archivedBytes || this.bytes > MAX_MAP_BYTES) return 'a sparse map without end';
    const text = this.#rest + block.toString('latin1');
    let at = 0;
    for (let line = text.indexOf('\n'); line >= 0 && !this.isWhole; line = text.indexOf('\n', at)) {
      const wrong = this.#take(paxNumber(text.slice(at, line)));
      if (wrong !== undefined) return wrong;
      at = line + 1;
    }
    if (this.isWhole) return undefined;
    this.#rest = text.slice(at);
    return this.#rest.length > 20 ? 'an impossible sparse map' : undefined;
  }

  #take(number: number): string | undefined {
    if (Number.isNaN(number)) return 'an impossible sparse map';
    if (this.#left === undefined) this.#left = number;
    else if (this.#offset === undefined) this.#offset = number;
    else return this.#addRange(this.#offset, number);
    return undefined;
  }

  #addRange(offset: number, length: number): string | undefined {
    this.#offset = undefined;
    this.#left = (this.#left as number) - 1;
    const last = this.ranges.at(-1);
    if (offset < (last === undefined ? 0 : last.offset + last.length) || offset + length > this.#fileBytes)
      return 'a sparse map that is not ascending, or past its end';
    if (length > 0) this.ranges.push({ offset, length });
    // Only the last one may be empty, where a file ends in a hole: empty ones cost memory and say nothing.
    else if (this.#left > 0) return 'a sparse map with an empty range';
    return undefined;
  }
}
