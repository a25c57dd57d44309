import { randomBytes } from 'node:crypto';
import type { EntryType } from '../format/entry.js';
import { commonLength } from '../format/names.js';
import { KeyedHash } from './keyed-hash.js';

/** What a name is: absent, a directory that only other names run through, or a member of one of the types. */
const KINDS = [
  'absent',
  'implied',
  'directory',
  'file',
  'symlink',
  'hardlink',
  'fifo',
  'character-device',
  'block-device',
];
const ABSENT = 0;
const IMPLIED = 1;
const DIRECTORY = 2;

/** More directories without a member of their own no archive has; each name of one can imply thousands. */
const MAX_IMPLIED = 1_000_000;

/** The tables grow one by one: a single one for a million names would hold the event loop while it is copied. */
const TABLES = 256;
const SLASH = 0x2f;

/**
 * The names of an archive, and whether each can be made of the ones before it: no name twice, nothing below what is not
 * a directory, hard links only to files that came before. An archive that breaks one of these could have something
 * written through a link that it made itself.
 *
 * Only hashes of 64 bits are kept, under a key of this set's own, in nine bytes a slot. A name that is there twice has
 * the same hash twice, and is never missed; that two of n names collide, and a good archive is refused, has the
 * probability n²/2⁶⁵.
 */
export class NameSet {
  readonly #hash = new KeyedHash(randomBytes(8));
  readonly #tables: Table[] = [];
  #implied = 0;
  /** The last one that was added: the directories that another shares with it have been looked at. */
  #last: Buffer = Buffer.alloc(0);

  /** Adds a member whose name is safe; `''` is the root of all. Returns what forbids it, if anything does. */
  add(name: Buffer, type: EntryType, linkname?: Buffer): string | undefined {
    // From where they differ on, or a tree of 25,000 levels would take minutes. The last one itself may be no
    // directory.
    const slashes: number[] = [];
    const from = commonLength(this.#last, name);
    for (let at = name.indexOf(SLASH, from); at >= 0; at = name.indexOf(SLASH, at + 1)) slashes.push(at);
    this.#last = Buffer.from(name);
    let wrong: string | undefined;
    this.#hash.prefixes(name, slashes, (length) => {
      if (wrong === undefined) wrong = length < name.length ? this.#addParent() : this.#addMember(type, linkname);
    });
    return wrong;
  }

  #addParent(): string | undefined {
    const table = this.#table();
    const slot = table.find(this.#hash.low, this.#hash.high);
    const kind = table.kinds[slot] as number;
    if (kind === ABSENT) {
      if (++this.#implied > MAX_IMPLIED) return `more than ${MAX_IMPLIED} directories that are no members`;
      table.put(slot, this.#hash.low, this.#hash.high, IMPLIED);
    } else if (kind > DIRECTORY) return `it lies below a ${KINDS[kind]}`;
    return undefined;
  }

  #addMember(type: EntryType, linkname: Buffer | undefined): string | undefined {
    const { low, high } = this.#hash;
    const table = this.#table();
    const slot = table.find(low, high);
    const kind = table.kinds[slot] as number;
    if (kind > IMPLIED) return 'the name is there twice';
    if (kind === IMPLIED && type !== 'directory') return 'members before it lie below it, and it is no directory';
    if (type === 'hardlink') {
      const target = linkname === undefined ? ABSENT : this.#kindOf(linkname);
      if (target <= IMPLIED) return 'a hard link to no member before it';
      if (target === DIRECTORY) return 'a hard link to a directory';
    }
    if (kind === IMPLIED) this.#implied--;
    table.put(slot, low, high, KINDS.indexOf(type));
    return undefined;
  }

  #kindOf(name: Buffer): number {
    let kind = ABSENT;
    this.#hash.prefixes(name, [], () => {
      const table = this.#table();
      kind = table.kinds[table.find(this.#hash.low, this.#hash.high)] as number;
    });
    return kind;
  }

  #table(): Table {
    return (this.#tables[this.#hash.high % TABLES] ??= new Table());
  }
}

/** Open addressing, at most two thirds full. */
class Table {
  kinds = new Uint8Array(32);
  #hashes = new Uint32Array(64);
  #count = 0;

  /** The slot with this hash, or the one where it belongs. */
  find(low: number, high: number): number {
    const mask = this.kinds.length - 1;
    for (let slot = low & mask; ; slot = (slot + 1) & mask) {
      if (this.kinds[slot] === ABSENT) return slot;
      if (this.#hashes[2 * slot] === low && this.#hashes[2 * slot + 1] === high) return slot;
    }
  }

  put(slot: number, low: number, high: number, kind: number): void {
    if (this.kinds[slot] === ABSENT) this.#count++;
    this.kinds[slot] = kind;
    this.#hashes[2 * slot] = low;
    this.#hashes[2 * slot + 1] = high;
    if (3 * this.#count > 2 * this.kinds.length) this.#grow();
  }

  #grow(): void {
    const [kinds, hashes] = [this.kinds, this.#hashes];
    this.kinds = new Uint8Array(2 * kinds.length);
    this.#hashes = new Uint32Array(2 * hashes.length);
    this.#count = 0;
    kinds.forEach((kind, slot) => {
      if (kind === ABSENT) return;
      const [low, high] = [hashes[2 * slot] as number, hashes[2 * slot + 1] as number];
      this.put(this.find(low, high), low, high, kind);
    });
  }
}
