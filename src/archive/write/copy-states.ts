import type { Area } from '../members/segments.js';
import { Bits } from '../scan/id-set.js';
import { Column } from '../tables/column.js';
import { HardLinks } from '../scan/hard-links.js';
import { takeTurns } from '../../yield-to-loop.js';
import type { PassTrust } from '../scan/copy-trust.js';

/** Below the flag TRUSTED: copied, and nothing can have happened to it that the next scan would not tell. */
const LIVE = 1;
const TRUSTED = 2;
/** No copy made while the tree runs can be trusted: one more pass is of no use. */
const HOPELESS = 4;
/** It is to be copied after all others. */
const LATE = 8;
/** Another name of what a pass has copied: it becomes a link when the pass has copied all else. */
const DEFERRED = 16;

/** Ids that are told at a time, and between which others get their turn. */
const CHUNK = 8192;

/** Where the copy of each entry of a tree is, if it has one, and whether it can be believed. */
export class Copies {
  /** Where the copies are; the tree may move them. */
  area: Area;
  readonly links = new HardLinks();
  /** Ids of sockets, which have none. */
  readonly sockets = new Set<number>();
  /** One more than the highest id seen. */
  count = 0;
  /** By id: the segment's number from 1 on, or 0; and flags. */
  readonly #segments = new Column(Uint32Array);
  readonly #flags = new Column(Uint8Array);
  /** Ids of what lives and has no good copy. */
  readonly #pending = new Bits();
  /** By id: the apparent size where it is not the stored one; else 0. */
  readonly #apparent = new Column(Float64Array);
  /** In their order; those among them that have the flag LATE. */
  #late: Uint32Array = new Uint32Array();
  #deferred = 0;

  constructor(area: Area) {
    this.area = area;
  }

  #mark(id: number, flags: number): void {
    this.#flags.set(id, flags);
    this.#pending.set(id, (flags & (LIVE | TRUSTED)) === LIVE);
  }

  add(id: number): void {
    this.count = Math.max(this.count, id + 1);
    this.#mark(id, LIVE);
  }

  /** Its copy, if there is one, is of no use. */
  doubt(id: number): void {
    this.#mark(id, LIVE);
  }

  /** These are to be copied last, in this order. */
  postpone(ids: Uint32Array): void {
    for (const id of ids) this.#mark(id, this.#flags.get(id) | LATE);
    this.#late = ids;
  }

  /** It is to be copied when the pass has copied all else. */
  defer(id: number): void {
    this.#mark(id, this.#flags.get(id) | DEFERRED);
    this.#deferred++;
  }

  /** The entry is gone. */
  remove(id: number): void {
    for (const link of this.links.leave(id)) this.doubt(link);
    this.vacate(id);
    this.#mark(id, 0);
  }

  /** The entry has no copy (any more). */
  vacate(id: number): void {
    const segment = this.#segments.get(id) - 1;
    if (segment >= 0) this.area.drop(segment);
    this.#segments.set(id, 0);
    this.sockets.delete(id);
    this.setApparent(id, 0);
    this.doubt(id);
  }

  /** A file's size where its holes are left out; 0 where they are not. */
  setApparent(id: number, bytes: number): void {
    if (this.#apparent.get(id) !== bytes) this.#apparent.set(id, bytes);
  }

  /** Where a copy with this much data would begin, whose header `headerBytes` makes as long as that place wants it. */
  offsetFor(id: number, dataBytes: number, headerBytes: (offset: number) => number): number {
    const old = this.#segments.get(id) - 1;
    if (old < 0) return this.area.end;
    const offset = this.area.offsetOf(old);
    return this.area.fits(old, headerBytes(offset), dataBytes) ? offset : this.area.end;
  }

  /**
   * A segment for a new copy: the old place where it fits; links always go to the end, behind what they link to. With
   * `shared`, at the offset that `offsetFor` chose, the old place only in the end.
   */
  place(
    id: number,
    headerBytes: number,
    dataBytes: number,
    regular: boolean,
    isLink: boolean,
    shared?: { offset: number; byReference: boolean },
  ): number {
    const old = this.#segments.get(id) - 1;
    const isWanted = shared === undefined || (old >= 0 && shared.offset === this.area.offsetOf(old));
    if (old >= 0 && !isLink && isWanted && this.area.fits(old, headerBytes, dataBytes)) {
      this.area.reuse(old, headerBytes, dataBytes, regular);
      if (shared?.byReference === true) this.area.putAtEnd(old);
      return old;
    }
    if (old >= 0) this.area.drop(old);
    const segment = this.area.append(id, headerBytes, dataBytes, regular);
    this.#segments.set(id, segment + 1);
    return segment;
  }

  /**
   * The copy is good, as far as `trust` goes: it equals what it was made of. `notifies`: its file system dates writes
   * through mappings.
   */
  judge(
    id: number,
    trust: PassTrust | undefined,
    stamp: { ctimeMs: number; isMapped: boolean; notifies: boolean },
  ): void {
    const hopeless = trust !== undefined && (!stamp.notifies || stamp.isMapped);
    const trusted = trust === undefined || (!hopeless && trust.isOld(stamp.ctimeMs));
    this.#mark(id, LIVE | (trusted ? TRUSTED : 0) | (hopeless ? HOPELESS : 0));
  }

  /** Ids of what has no good copy. */
  *#pendingIds(): Generator<number> {
    for (let id = this.#pending.next(0); id !== undefined; id = this.#pending.next(id + 1)) yield id;
  }

  /** One of those that `hopeful` leaves out: it cannot have a good copy now. */
  #isHopeless(id: number, hopeful: boolean): boolean {
    return hopeful && (this.#flags.get(id) & HOPELESS) !== 0;
  }

  /** How many have no good copy, and the bytes of the copies that they have. */
  async left({ hopeful }: { hopeful: boolean }): Promise<{ entries: number; bytes: number }> {
    let entries = 0;
    let bytes = 0;
    let seen = 0;
    let since = performance.now();
    for (const id of this.#pendingIds()) {
      if (seen++ % CHUNK === 0) since = await takeTurns(since);
      if (this.#isHopeless(id, hopeful)) continue;
      entries++;
      const segment = this.#segments.get(id) - 1;
      if (segment >= 0) bytes += this.area.dataBytesOf(segment);
    }
    return { entries, bytes };
  }

  /** The first that has no good copy. */
  firstLeft(): number | undefined {
    return this.#pending.next(0);
  }

  /** Ids of what has no good copy, in an order that suits the archive; found as they are asked for. */
  async *pending({ hopeful }: { hopeful: boolean }): AsyncGenerator<Uint32Array> {
    yield* this.#inPieces(
      this.#pendingIds(),
      (id) => (this.#flags.get(id) & LATE) === 0 && !this.#isHopeless(id, hopeful),
    );
    const late = this.#late.filter(
      (id) => (this.#flags.get(id) & (LATE | LIVE | TRUSTED)) === (LATE | LIVE) && !this.#isHopeless(id, hopeful),
    );
    this.#late = new Uint32Array();
    for (const id of late) this.#mark(id, this.#flags.get(id) & ~LATE);
    for (let at = 0; at < late.length; at += CHUNK) yield late.subarray(at, at + CHUNK);
  }

  /** Ids of what was deferred. */
  async *takeDeferred(): AsyncGenerator<Uint32Array> {
    if (this.#deferred === 0) return;
    this.#deferred = 0;
    yield* this.#inPieces(this.#allIds(), (id) => {
      const flags = this.#flags.get(id);
      if ((flags & DEFERRED) === 0) return false;
      this.#mark(id, flags & ~DEFERRED);
      return true;
    });
  }

  /** Ids of all that lives. */
  *live(): Generator<number> {
    for (let id = 0; id < this.count; id++) if ((this.#flags.get(id) & LIVE) !== 0) yield id;
  }

  *#allIds(): Generator<number> {
    for (let id = 0; id < this.count; id++) yield id;
  }

  async *#inPieces(all: Iterable<number>, isWanted: (id: number) => boolean): AsyncGenerator<Uint32Array> {
    let ids = new Uint32Array(CHUNK);
    let used = 0;
    let seen = 0;
    let since = performance.now();
    for (const id of all) {
      if (seen++ % CHUNK === 0) since = await takeTurns(since);
      if (!isWanted(id)) continue;
      ids[used++] = id;
      if (used < CHUNK) continue;
      yield ids;
      ids = new Uint32Array(CHUNK);
      used = 0;
    }
    if (used > 0) yield ids.subarray(0, used);
  }

  /** What is to be copied anew concerns all that were links to it. */
  async doubtLinks(options: { hopeful: boolean }): Promise<void> {
    if (this.links.isEmpty) return;
    for await (const ids of this.#inPieces(this.#pendingIds(), (id) => !this.#isHopeless(id, options.hopeful))) {
      for (const id of ids) for (const link of this.links.leave(id)) this.doubt(link);
    }
  }

  /** Entries in the area, and the apparent bytes of regular files. */
  async totals(): Promise<{ entries: number; bytes: number }> {
    const { area } = this;
    let entries = 0;
    let bytes = 0;
    let since = performance.now();
    for (let segment = 0; segment < area.count; segment++) {
      if (segment % CHUNK === 0) since = await takeTurns(since);
      if (!area.isLive(segment)) continue;
      entries++;
      if (area.isRegular(segment)) bytes += this.#apparent.get(area.ownerOf(segment)) || area.dataBytesOf(segment);
    }
    return { entries, bytes };
  }
}
