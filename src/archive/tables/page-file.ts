import { readSync, writeSync } from 'node:fs';
import { native } from '../../native.js';
import type { NativeStore } from '../../native-files.js';

/** As in native/tree/store.h. */
export const PAGE_BYTES = 65_536;

/** How many pages of 64 KiB are in memory at most. */
export interface ScratchLimits {
  /**
   * What native/ knows of the trees: the first pages, which stay in memory for good, and of all others those used last.
   */
  fixed: number;
  cached: number;
  /** Tables of the copies. */
  tables: number;
}

/** 28 MiB in all. A tree of 100,000 files fits, and never touches the file. */
const LIMITS: ScratchLimits = { fixed: 192, cached: 64, tables: 192 };

export type Numbers = Float64Array | Uint32Array | Uint8Array;

export type NumbersType = (new (buffer: ArrayBuffer) => Numbers) & { readonly BYTES_PER_ELEMENT: number };

/** A part of a table: which part, and where the table has it while it is in memory. */
export interface Page {
  readonly Numbers: NumbersType;
  readonly table: (Numbers | undefined)[];
  readonly number: number;
  /** Has been written to since it was in the file. */
  dirty: boolean;
  /** Which page of the file it is, once it has been there. */
  place: number | undefined;
}

/**
 * What is known of files and their copies: in memory up to a limit, beyond it in a file that nobody else sees. The file
 * is read and written at once, by calls of some microseconds: what was written lately is in the kernel's cache.
 */
export class Scratch {
  /** For native trees. Their pages and those of tables take turns in the file. */
  readonly store: NativeStore;
  readonly #fd: number;
  readonly #limit: number;
  /** Pages in memory, in the order in which they came, from `#oldest` on and around. */
  readonly #resident: Page[] = [];
  #oldest = 0;
  #closed = false;

  /** Without a file (-1) all of it stays in memory. */
  constructor(fd = -1, { fixed, cached, tables }: ScratchLimits = LIMITS) {
    this.#fd = fd;
    this.#limit = fd < 0 ? Infinity : tables;
    this.store = native().storeCreate(fd, fixed, cached);
  }

  /**
   * Brings the page into memory, in the place of the one that has been there the longest; a new one is all zeros.
   * @throws errno errors of the file
   */
  bring(page: Page): Numbers {
    let buffer: ArrayBuffer;
    if (this.#resident.length < this.#limit) {
      buffer = new ArrayBuffer(PAGE_BYTES);
      this.#resident.push(page);
    } else {
      const oldest = this.#resident[this.#oldest] as Page;
      buffer = this.#evict(oldest);
      this.#resident[this.#oldest] = page;
      this.#oldest = (this.#oldest + 1) % this.#limit;
      if (page.place === undefined) new Uint8Array(buffer).fill(0);
    }
    if (page.place !== undefined) this.#move('read', buffer, page.place);
    return (page.table[page.number] = new page.Numbers(buffer));
  }

  /** Makes sure that the disk gave back what it was given. @throws errno errors of the file */
  async settle(): Promise<void> {
    await native().storeSettle(this.store);
  }

  /** Before the file is closed: what is not in memory is lost. */
  close(): void {
    this.#closed = true;
    native().storeClose(this.store);
  }

  #evict(page: Page): ArrayBuffer {
    const { buffer } = page.table[page.number] as Numbers & { buffer: ArrayBuffer };
    if (page.dirty) {
      page.place ??= native().storePlace(this.store);
      this.#move('write', buffer, page.place);
      page.dirty = false;
    }
    page.table[page.number] = undefined;
    return buffer;
  }

  #move(what: 'read' | 'write', buffer: ArrayBuffer, place: number): void {
    if (this.#closed) throw new Error('the scratch file is closed');
    const bytes = new Uint8Array(buffer);
    for (let at = 0; at < PAGE_BYTES;) {
      const position = place * PAGE_BYTES + at;
      const moved =
        what === 'read'
          ? readSync(this.#fd, bytes, at, PAGE_BYTES - at, position)
          : writeSync(this.#fd, bytes, at, PAGE_BYTES - at, position);
      if (moved === 0)
        throw Object.assign(new Error('EIO: the scratch file ends early'), { code: 'EIO', syscall: 'scratch' });
      at += moved;
    }
  }
}
