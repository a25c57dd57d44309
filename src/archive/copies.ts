import type { Area } from './area.js';
import { Column } from './column.js';
import { HardLinks } from './hard-links.js';
import type { PassTrust } from './trust.js';

/** Below the flag TRUSTED: copied, and nothing can have happened to it that the next scan would not tell. */
const LIVE = 1;
const TRUSTED = 2;
/** No copy made while the tree runs can be trusted: one more pass is of no use. */
const HOPELESS = 4;

/** Where the copy of each entry of a tree is, if it has one, and whether it can be believed. */
export class Copies {
  /** Where the copies are. Sealing may put them elsewhere. */
  area: Area;
  readonly links = new HardLinks();
  /** Ids of sockets, which have none. */
  readonly sockets = new Set<number>();
  /** Apparent sizes where they are not the stored ones. */
  readonly sparse = new Map<number, number>();
  /** One more than the highest id seen. */
  count = 0;
  /** By id: the segment's number from 1 on, or 0; and flags. */
  readonly #segments = new Column(Uint32Array);
  readonly #flags = new Column(Uint8Array);

  constructor(area: Area) {
    this.area = area;
  }

  add(id: number): void {
    this.count = Math.max(this.count, id + 1);
    this.#flags.set(id, LIVE);
  }

  /** Its copy, if there is one, is of no use. */
  doubt(id: number): void {
    this.#flags.set(id, LIVE);
  }

  /** The entry is gone. */
  remove(id: number): void {
    for (const link of this.links.leave(id)) this.doubt(link);
    this.vacate(id);
    this.#flags.set(id, 0);
  }

  /** The entry has no copy (any more). */
  vacate(id: number): void {
    const segment = this.#segments.get(id) - 1;
    if (segment >= 0) this.area.drop(segment);
    this.#segments.set(id, 0);
    this.sockets.delete(id);
    this.sparse.delete(id);
    this.doubt(id);
  }

  /** A segment for a new copy: the old place where it fits; links always go to the end, behind what they link to. */
  place(id: number, headerBytes: number, dataBytes: number, regular: boolean, isLink: boolean): number {
    const old = this.#segments.get(id) - 1;
    if (old >= 0 && !isLink && this.area.fits(old, headerBytes, dataBytes)) {
      this.area.reuse(old, headerBytes, dataBytes, regular);
      return old;
    }
    if (old >= 0) this.area.drop(old);
    const segment = this.area.append(id, headerBytes, dataBytes, regular);
    this.#segments.set(id, segment + 1);
    return segment;
  }

  /** The copy is good, as far as `trust` goes: it equals what it was made of. `notifies`: its file system dates writes through mappings. */
  judge(id: number, trust: PassTrust | undefined, stamp: { ctimeMs: number; isMapped: boolean; notifies: boolean }): void {
    const hopeless = trust !== undefined && (!stamp.notifies || stamp.isMapped);
    const trusted = trust === undefined || (!hopeless && trust.isOld(stamp.ctimeMs));
    this.#flags.set(id, LIVE | (trusted ? TRUSTED : 0) | (hopeless ? HOPELESS : 0));
  }

  /** What has no good copy; `hopeful` leaves out what cannot have one now. */
  pending({ hopeful }: { hopeful: boolean }): { ids: Uint32Array; bytes: number } {
    const ids: number[] = [];
    let bytes = 0;
    for (let id = 0; id < this.count; id++) {
      const flags = this.#flags.get(id);
      if ((flags & (LIVE | TRUSTED)) !== LIVE || (hopeful && (flags & HOPELESS) !== 0)) continue;
      ids.push(id);
      const segment = this.#segments.get(id) - 1;
      if (segment >= 0) bytes += this.area.dataBytesOf(segment);
    }
    return { ids: Uint32Array.from(ids), bytes };
  }

  live(): Uint32Array {
    const ids: number[] = [];
    for (let id = 0; id < this.count; id++) if ((this.#flags.get(id) & LIVE) !== 0) ids.push(id);
    return Uint32Array.from(ids);
  }

  /** These ids and all that were links to one of them, which are to be copied anew. */
  withLinks(ids: Uint32Array): Uint32Array {
    const more = new Set<number>();
    for (const id of ids) {
      for (const link of this.links.leave(id)) {
        more.add(link);
        this.doubt(link);
      }
    }
    if (more.size === 0) return ids;
    for (const id of ids) more.delete(id);
    return Uint32Array.from([...ids, ...more]);
  }

  /** Entries in the area, and the apparent bytes of regular files. */
  totals(): { entries: number; bytes: number } {
    const { area } = this;
    let entries = 0;
    let bytes = 0;
    for (let segment = 0; segment < area.count; segment++) {
      if (!area.isLive(segment)) continue;
      entries++;
      if (area.isRegular(segment)) bytes += this.sparse.get(area.ownerOf(segment)) ?? area.dataBytesOf(segment);
    }
    return { entries, bytes };
  }
}
