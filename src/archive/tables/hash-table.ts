/** In the place of a number: nothing yet, and what has been removed. */
const FREE = 0;
const LEFT = 0xffff_ffff;
const FIRST_SLOTS = 16;
/** By a hash's first bits. */
const PART_BITS = 8;

/**
 * Numbers by hashes of 32 bits, several of which may be the same: 11 to 23 bytes each. Parts of it grow one at a time:
 * to grow a single table for a million takes 40 ms, and the event loop would be held that long.
 */
export class HashTable {
  readonly #parts: (Part | undefined)[] = Array.from({ length: 1 << PART_BITS }, () => undefined);
  /** Nothing has ever been added. */
  isEmpty = true;

  /** A number with this hash that is the one. */
  find(hash: number, isIt: (number: number) => boolean): number | undefined {
    return this.#parts[hash >>> (32 - PART_BITS)]?.find(hash, isIt);
  }

  /** A number below 2^32 - 2 that is not there yet. */
  add(hash: number, number: number): void {
    this.isEmpty = false;
    (this.#parts[hash >>> (32 - PART_BITS)] ??= new Part()).add(hash, number + 1);
  }

  remove(hash: number, number: number): void {
    this.#parts[hash >>> (32 - PART_BITS)]?.remove(hash, number);
  }
}

class Part {
  /** Pairs of a number, from 1 on, and its hash, the last bits of which say where it is looked for first. */
  #pairs = new Uint32Array(2 * FIRST_SLOTS);
  /** Slots that are not free. */
  #used = 0;

  find(hash: number, isIt: (number: number) => boolean): number | undefined {
    const found = this.#pairs[2 * this.#slotOf(hash, isIt)] as number;
    return found === FREE ? undefined : found - 1;
  }

  remove(hash: number, number: number): void {
    const slot = this.#slotOf(hash, (other) => other === number);
    if (this.#pairs[2 * slot] !== FREE) this.#pairs[2 * slot] = LEFT;
  }

  add(hash: number, entry: number): void {
    if (this.#used >= (this.#pairs.length / 2) * 0.7) this.#rebuild();
    this.#put(hash, entry);
    this.#used++;
  }

  #put(hash: number, entry: number): void {
    const slot = this.#slotOf(hash, () => false);
    this.#pairs[2 * slot] = entry;
    this.#pairs[2 * slot + 1] = hash;
  }

  /** The slot of the number that has this hash and is the one; or a free one. */
  #slotOf(hash: number, isIt: (number: number) => boolean): number {
    const pairs = this.#pairs;
    const mask = pairs.length / 2 - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = pairs[2 * slot] as number;
      if (entry === FREE || (entry !== LEFT && pairs[2 * slot + 1] === hash && isIt(entry - 1))) return slot;
    }
  }

  /** Without those that have left, and at most half full. */
  #rebuild(): void {
    const old = this.#pairs;
    let live = 0;
    for (let at = 0; at < old.length; at += 2) if (old[at] !== FREE && old[at] !== LEFT) live++;
    let slots = FIRST_SLOTS;
    while (slots < 2 * live + 2) slots *= 2;
    this.#pairs = new Uint32Array(2 * slots);
    this.#used = live;
    for (let at = 0; at < old.length; at += 2)
      if (old[at] !== FREE && old[at] !== LEFT) this.#put(old[at + 1] as number, old[at] as number);
  }
}
