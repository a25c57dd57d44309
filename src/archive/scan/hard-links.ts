import { Column } from '../tables/column.js';
import { HashTable } from '../tables/hash-table.js';

/**
 * Which entry of a tree carries the data of an inode with several names; the others are links to it. What
 * happens to the carrier concerns them all: they are to be staged again, and may have to carry themselves.
 */
export class HardLinks {
  /** All carriers, by the hashes of their inodes. */
  readonly #carriers = new HashTable();
  /** By a carrier's id: its inode. */
  readonly #dev = new Column(Uint32Array);
  readonly #inoLow = new Column(Uint32Array);
  readonly #inoHigh = new Column(Uint32Array);
  /**
   * By id, each from 1 on: its carrier, and its neighbours in the ring of all that have this carrier. 0: it is in none.
   */
  readonly #carrier = new Column(Uint32Array);
  readonly #next = new Column(Uint32Array);
  readonly #previous = new Column(Uint32Array);

  /** No entry has ever had several names. */
  get isEmpty(): boolean {
    return this.#carriers.isEmpty;
  }

  /** Whose data is that of this entry, as far as is known: its own if of none else. */
  carrierOf(id: number): number {
    return (this.#carrier.get(id) || id + 1) - 1;
  }

  /** The id of the entry that carries the data, `id` itself when it is the first. */
  join(id: number, dev: number, ino: bigint): number {
    const low = Number(ino & 0xffff_ffffn);
    const high = Number(ino >> 32n);
    const hash = hashOf(dev, low, high);
    const carrier =
      this.#carriers.find(
        hash,
        (other) => this.#inoLow.get(other) === low && this.#inoHigh.get(other) === high && this.#dev.get(other) === dev,
      ) ?? -1;
    if (carrier >= 0 && this.#carrier.get(id) === carrier + 1) return carrier;
    // It was somebody else's a moment ago: its directory is being written to.
    if (this.#carrier.get(id) !== 0) for (const _ of this.leave(id));
    if (carrier >= 0) {
      this.#insert(id, carrier);
      return carrier;
    }
    this.#dev.set(id, dev);
    this.#inoLow.set(id, low);
    this.#inoHigh.set(id, high);
    this.#carrier.set(id, id + 1);
    this.#next.set(id, id + 1);
    this.#previous.set(id, id + 1);
    this.#carriers.add(hash, id);
    return id;
  }

  /**
   * Forgets the entry, and the whole group when it was the carrier; tells the ids that lost it, and must be asked for
   * all of them.
   */
  *leave(id: number): Generator<number> {
    const carrier = this.#carrier.get(id) - 1;
    if (carrier < 0) return;
    if (carrier !== id) {
      this.#remove(id);
      return;
    }
    this.#carriers.remove(hashOf(this.#dev.get(id), this.#inoLow.get(id), this.#inoHigh.get(id)), id);
    for (let link = this.#next.get(id) - 1; link !== id; link = this.#next.get(id) - 1) {
      this.#remove(link);
      yield link;
    }
    this.#carrier.set(id, 0);
  }

  #insert(id: number, carrier: number): void {
    const next = this.#next.get(carrier);
    this.#carrier.set(id, carrier + 1);
    this.#next.set(id, next);
    this.#previous.set(id, carrier + 1);
    this.#previous.set(next - 1, id + 1);
    this.#next.set(carrier, id + 1);
  }

  #remove(id: number): void {
    const [next, previous] = [this.#next.get(id), this.#previous.get(id)];
    this.#next.set(previous - 1, next);
    this.#previous.set(next - 1, previous);
    this.#carrier.set(id, 0);
  }
}

/** 32 bits that depend on all of theirs. */
function hashOf(dev: number, low: number, high: number): number {
  let hash = Math.imul(low ^ Math.imul(high, 0x9e3779b1) ^ Math.imul(dev, 0x85ebca6b), 0xc2b2ae35);
  hash = Math.imul(hash ^ (hash >>> 15), 0x27d4eb2f);
  return (hash ^ (hash >>> 13)) >>> 0;
}
