/**
 * Which entry of a tree carries the data of an inode with several names; the others are links to it. What
 * happens to the carrier concerns them all: they are to be staged again, and may have to carry themselves.
 */
export class HardLinks {
  readonly #byInode = new Map<string, Group>();
  readonly #byId = new Map<number, Group>();

  /** The id of the entry that carries the data, `id` itself when it is the first. */
  join(id: number, dev: number, ino: bigint): number {
    const key = `${dev}:${ino}`;
    let group = this.#byInode.get(key);
    if (group === undefined) this.#byInode.set(key, (group = { key, carrier: id, links: new Set() }));
    else if (group.carrier !== id) group.links.add(id);
    this.#byId.set(id, group);
    return group.carrier;
  }

  /** Forgets the entry, and the whole group when it was the carrier; returns the ids that lost it. */
  leave(id: number): Iterable<number> {
    const group = this.#byId.get(id);
    if (group === undefined) return [];
    this.#byId.delete(id);
    if (group.carrier !== id) {
      group.links.delete(id);
      return [];
    }
    this.#byInode.delete(group.key);
    for (const link of group.links) this.#byId.delete(link);
    return group.links;
  }
}

interface Group {
  key: string;
  carrier: number;
  links: Set<number>;
}
