import type { Entry, EntryType } from '../format/entry.js';
import type { Described } from './description.js';
import { alignRanges } from '../format/tar-encode.js';

const S_IFMT = 0o170000;

const TYPES: ReadonlyMap<number, EntryType> = new Map([
  [0o100000, 'file'],
  [0o040000, 'directory'],
  [0o120000, 'symlink'],
  [0o010000, 'fifo'],
  [0o020000, 'character-device'],
  [0o060000, 'block-device'],
]);

/** Undefined for a socket, which no archive holds. */
export function typeOf(described: Described): EntryType | undefined {
  return TYPES.get(described.mode & S_IFMT);
}

/** The member that this entry becomes. */
export function entryOf(described: Described, type: EntryType, name: Buffer): Entry {
  const { uid, gid, mtimeNs, xattrs, data } = described;
  const entry: Entry = { name, type, mode: described.mode & 0o7777, uid, gid, size: 0, mtimeNs };
  if (xattrs.length > 0) entry.xattrs = xattrs;
  if (type === 'symlink') entry.linkname = described.link;
  if (type === 'character-device' || type === 'block-device') {
    entry.devmajor = described.rdevMajor;
    entry.devminor = described.rdevMinor;
  }
  if (type === 'file') {
    entry.size = described.size;
    if (data !== undefined && !coversAll(data, described.size)) entry.data = alignRanges(data, described.size);
  }
  return entry;
}

/** The member for a further name of the same inode. Its attributes are those of the first. */
export function linkOf(described: Described, name: Buffer, target: Buffer): Entry {
  const { uid, gid, mtimeNs } = described;
  return { name, type: 'hardlink', mode: described.mode & 0o7777, uid, gid, size: 0, mtimeNs, linkname: target };
}

function coversAll(data: readonly { offset: number; length: number }[], size: number): boolean {
  return data.length === 1 && data[0]?.offset === 0 && data[0].length >= size;
}
