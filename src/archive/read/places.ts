import { ArchiveError } from '../format/archive-error.js';
import { bytesFromJson, printable } from '../format/byte-text.js';
import type { EntryType } from '../format/entry.js';
import type { Manifest, TreeRecord } from '../format/manifest.js';
import { ROOT_NAME } from '../format/names.js';
import type { TarRange } from './reader.js';

/** A member that no member before it holds, with all that lies below it and follows it directly. */
export interface MemberPlace {
  type: EntryType;
  headerOffset: number;
  dataOffset: number;
  storedBytes: number;
  /** Where the last member of those below it ends; its own end when there are none. */
  end: number;
  /** How many members these are, itself included. */
  entries: number;
}

/**
 * A tree's place: for layout `members` its members, headers and all; for `nested` the tar that is its member's data.
 */
export interface TreePlace {
  record: TreeRecord;
  name: Buffer;
  range: TarRange;
  /** What its root is called there, in latin1. */
  root: string;
}

/**
 * Where the members of an archive are, in memory that does not grow with the files of its trees: a directory and what
 * follows it from below it have one place together.
 */
export class Places {
  /** By the first name of each, in latin1, in the archive's order. */
  readonly byName = new Map<string, MemberPlace>();
  #current: { below: string; place: MemberPlace } | undefined;

  add(name: string, place: Omit<MemberPlace, 'entries'>): void {
    if (this.#current !== undefined && name.startsWith(this.#current.below)) {
      this.#current.place.end = place.end;
      this.#current.place.entries++;
      return;
    }
    const first = { ...place, entries: 1 };
    this.byName.set(name, first);
    this.#current = place.type === 'directory' ? { below: `${name}/`, place: first } : undefined;
  }
}

/** Where a name is, or could be: its own place, or that of a directory above it. */
export function placeOf(places: ReadonlyMap<string, MemberPlace>, name: string): MemberPlace | undefined {
  for (let at = name.length; at > 0; at = name.lastIndexOf('/', at - 1)) {
    const place = places.get(name.slice(0, at));
    if (place !== undefined) return place;
  }
  return undefined;
}

/** Where each tree of the manifest is; a tree's members lie side by side. */
export function placeTrees(
  archivePath: string,
  manifest: Manifest,
  places: ReadonlyMap<string, MemberPlace>,
): TreePlace[] {
  const wrong = (name: Buffer, what: string): ArchiveError =>
    new ArchiveError('ARCHIVE_DAMAGED', { archivePath, member: printable(name), what });
  const seen = new Set<string>();
  return manifest.trees.map((record): TreePlace => {
    const name = bytesFromJson(record.name);
    const key = name.toString('latin1');
    if (seen.has(key)) throw wrong(name, 'the manifest lists a tree twice');
    seen.add(key);
    const place = places.get(key);
    if (place === undefined)
      throw wrong(
        name,
        placeOf(places, key) === undefined
          ? 'the manifest lists a tree that is not there'
          : 'the manifest lists a tree that lies within another directory of the archive',
      );
    const { type, headerOffset, dataOffset, storedBytes, end, entries } = place;
    if (record.layout === 'nested') {
      if (type !== 'file') throw wrong(name, 'the manifest says that it is a tar');
      return { record, name, range: { start: dataOffset, end: dataOffset + storedBytes }, root: ROOT_NAME };
    }
    if (record.entries !== entries)
      throw wrong(
        name,
        `the manifest says that the tree has ${record.entries} entries, the archive has ${entries} side by side`,
      );
    return { record, name, range: { start: headerOffset, end }, root: key };
  });
}
