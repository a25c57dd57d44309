/**
 * Entries as tar headers: POSIX pax, with GNU's sparse format 1.0. No file is touched here.
 *
 * Why this is not tar-stream: its headers are made of UTF-8 strings, so names and attributes that are other
 * bytes come out damaged; numbers that do not fit a field are cut in silence; and its header codec is not
 * exported (3.2). It stays in use where it carries: in the tests, beside GNU tar, as an independent reader.
 *
 * A member's *data* is what follows everything `encodeHeader` returns. The map of a sparse file, which tar
 * counts as data, is a header for us: then a member's stored bytes are exactly bytes of the file.
 * A second writer is in native/archive/member.c: it makes the members of small regular files with nothing odd about
 * them, in the thread that reads them, which halves the processor time of 300,000 such files. Both must make the same
 * bytes: test/root/archive/ready-members.test.ts compares them.
 * Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Storing Sparse Files".
 */
import { unrepresentable } from './archive-error.js';
import type { ByteRange, Entry, EntryType } from './entry.js';
import { MAX_NAME_BYTES } from './names.js';
import { escapeKeyword, MAX_PAX_BYTES, paxRecord, paxTime } from './pax.js';

export const BLOCK_BYTES = 512;

/** File systems that share blocks between files share whole ones, of this many bytes or less. */
export const SHARED_BLOCK_BYTES = 4096;

/** A sparse map of more bytes (some 600,000 ranges) is neither written nor read. */
export const MAX_MAP_BYTES = 16 * 1024 * 1024;

/** Two zero blocks. */
export const END_OF_ARCHIVE: Buffer = Buffer.alloc(2 * BLOCK_BYTES);

const TYPE_FLAGS: Readonly<Record<EntryType, number>> = {
  file: 0x30,
  hardlink: 0x31,
  symlink: 0x32,
  'character-device': 0x33,
  'block-device': 0x34,
  directory: 0x35,
  fifo: 0x36,
};

const MAX_OCTAL_7 = 0o7777777;
const MAX_OCTAL_11 = 0o77777777777;
const MAGIC = Buffer.from('ustar\x0000', 'latin1');
const MAGIC_SUM = MAGIC.reduce((sum, byte) => sum + byte, 0);
const SECOND_NS = 1_000_000_000n;

/** How many zero bytes follow data of this length, up to the next block. */
export function padding(bytes: number): number {
  return (BLOCK_BYTES - (bytes % BLOCK_BYTES)) % BLOCK_BYTES;
}

/** Bytes of data that the member has in the archive, without padding: a sparse file's holes do not count. */
export function storedSize(entry: Entry): number {
  let sum = 0;
  for (const { length } of storedRanges(entry)) sum += length;
  return sum;
}

/** Where in the file that data goes: the ranges of a sparse one, else all of it. */
export function storedRanges(entry: Entry): readonly ByteRange[] {
  if (entry.type !== 'file') return [];
  return entry.data ?? [{ offset: 0, length: entry.size }];
}

/**
 * Ranges as a sparse member can have them: ascending, merged, each on block boundaries except at the end
 * of the file. GNU tar reads every range from a new block, so a ragged one in the middle would shift all after it.
 */
export function alignRanges(ranges: readonly ByteRange[], size: number): ByteRange[] {
  const out: ByteRange[] = [];
  for (const { offset, length } of ranges) {
    const start = offset - (offset % BLOCK_BYTES);
    const end = Math.min(offset + length + padding(offset + length), size);
    if (end <= start) continue;
    const last = out.at(-1);
    if (last !== undefined && start <= last.offset + last.length)
      last.length = Math.max(last.length, end - last.offset);
    else out.push({ offset: start, length: end - start });
  }
  return out;
}

/**
 * All blocks that come before the member's data: pax header where something does not fit, ustar header,
 * sparse map. The data (`storedSize` bytes, ranges one after the other) and its `padding` follow.
 * @param take Gives so many bytes of memory for them. Default: fresh ones.
 * @param offset Where they will be, if the data is to begin on a page: a comment makes the pax header longer.
 * @throws ArchiveError ENTRY_UNREPRESENTABLE; nothing is ever cut to fit
 */
export function encodeHeader(
  entry: Entry,
  take: (bytes: number) => Buffer = (bytes) => Buffer.allocUnsafe(bytes),
  offset?: number,
): Buffer {
  const { type } = entry;
  check(entry);
  const name = type === 'directory' ? `${entry.name.toString('latin1')}/` : entry.name.toString('latin1');
  const linkname = entry.linkname === undefined ? '' : entry.linkname.toString('latin1');
  const map = type === 'file' && entry.data !== undefined ? encodeMap(entry, entry.data) : '';
  const mapBytes = map.length + padding(map.length);
  const size = storedSize(entry) + mapBytes;

  let seconds = Number(entry.mtimeNs / SECOND_NS);
  let pax = '';
  if (entry.mtimeNs < 0n || seconds > MAX_OCTAL_11 || entry.mtimeNs % SECOND_NS !== 0n)
    pax += paxRecord('mtime', paxTime(entry.mtimeNs));
  if (seconds < 0 || seconds > MAX_OCTAL_11) seconds = 0;
  if (map !== '') {
    pax += paxRecord('GNU.sparse.major', '1') + paxRecord('GNU.sparse.minor', '0');
    pax += paxRecord('GNU.sparse.name', name) + paxRecord('GNU.sparse.realsize', String(entry.size));
  } else if (name.length > 100) {
    pax += paxRecord('path', name);
  }
  if (linkname.length > 100) pax += paxRecord('linkpath', linkname);
  if (entry.uid > MAX_OCTAL_7) pax += paxRecord('uid', String(entry.uid));
  if (entry.gid > MAX_OCTAL_7) pax += paxRecord('gid', String(entry.gid));
  if (size > MAX_OCTAL_11) pax += paxRecord('size', String(size));
  if (entry.xattrs !== undefined) {
    for (const xattr of entry.xattrs)
      pax += paxRecord(`SCHILY.xattr.${escapeKeyword(xattr.name.toString('latin1'))}`, xattr.value.toString('latin1'));
  }
  // With what fills it up below.
  if (pax.length > MAX_PAX_BYTES - 2 * SHARED_BLOCK_BYTES)
    throw unrepresentable(entry.name, `its attributes take ${pax.length} bytes of header`);
  if (offset !== undefined) pax += filler(pax.length, offset + BLOCK_BYTES + mapBytes);

  const paxBytes = paxBytesOf(pax.length);
  const total = paxBytes + BLOCK_BYTES + mapBytes;
  const out = take(total).fill(0);
  if (paxBytes !== 0) {
    paxBlock(pax.length).copy(out);
    out.write(pax, BLOCK_BYTES, 'latin1');
  }
  const shown = map === '' ? name : `GNUSparseFile.0/${name.slice(name.lastIndexOf('/') + 1)}`;
  const uid = entry.uid > MAX_OCTAL_7 ? 0 : entry.uid;
  const gid = entry.gid > MAX_OCTAL_7 ? 0 : entry.gid;
  writeBlock(
    out,
    paxBytes,
    shown,
    entry.mode,
    uid,
    gid,
    size > MAX_OCTAL_11 ? 0 : size,
    seconds,
    TYPE_FLAGS[type],
    linkname,
    entry.devmajor,
    entry.devminor,
  );
  if (map !== '') out.write(map, paxBytes + BLOCK_BYTES, 'latin1');
  return out;
}

/** Of a pax header whose records have this many bytes. */
function paxBytesOf(records: number): number {
  return records === 0 ? 0 : BLOCK_BYTES + records + padding(records);
}

/**
 * A record beside so many bytes of others that brings what follows the pax header, at `end` without it, to the start of
 * a page.
 */
function filler(records: number, end: number): string {
  const isOnPage = (bytes: number): boolean => (end + paxBytesOf(bytes)) % SHARED_BLOCK_BYTES === 0;
  if (isOnPage(records)) return '';
  let blocks = 1;
  while (!isOnPage(records + blocks * BLOCK_BYTES)) blocks++;
  // Short of the last block's end, so that the length of the record's own length does not matter.
  const last = records + blocks * BLOCK_BYTES + padding(records);
  return paxRecord('comment', ' '.repeat(last - records - BLOCK_BYTES / 2));
}

/** The block before a pax header's body differs only by the body's length, and most bodies are an mtime. */
const paxBlocks = new Map<number, Buffer>();

function paxBlock(bytes: number): Buffer {
  const known = paxBlocks.get(bytes);
  if (known !== undefined) return known;
  const block = Buffer.alloc(BLOCK_BYTES);
  writeBlock(block, 0, '././@PaxHeader', 0o644, 0, 0, bytes, 0, 0x78);
  if (bytes < 2 * BLOCK_BYTES) paxBlocks.set(bytes, block);
  return block;
}

function check(entry: Entry): void {
  const { name, type, linkname } = entry;
  if (name.length === 0 || name.includes(0))
    throw unrepresentable(name, 'a name must have at least one byte, and none that is zero');
  if (name[0] === 0x2f || name[name.length - 1] === 0x2f)
    throw unrepresentable(name, 'its name begins or ends with a slash');
  for (const bytes of [name.length, linkname?.length ?? 0])
    if (bytes > MAX_NAME_BYTES) throw unrepresentable(name, `a path of ${bytes} bytes`);
  if ((entry.mode & ~0o7777) !== 0) throw unrepresentable(name, `mode ${entry.mode}`);
  for (const value of [entry.uid, entry.gid, entry.size]) {
    if (!Number.isSafeInteger(value) || value < 0) throw unrepresentable(name, `the number ${value}`);
  }
  if (type === 'symlink' || type === 'hardlink') {
    if (linkname === undefined || linkname.length === 0 || linkname.includes(0))
      throw unrepresentable(name, 'a link without a target');
  }
  if (type === 'character-device' || type === 'block-device') {
    for (const value of [entry.devmajor, entry.devminor]) {
      if (value === undefined || !Number.isInteger(value) || value < 0 || value > MAX_OCTAL_7)
        throw unrepresentable(name, `device number ${value}`);
    }
  }
  for (const xattr of entry.xattrs ?? []) {
    if (xattr.name.length === 0 || xattr.name.includes(0)) throw unrepresentable(name, 'an attribute without a name');
  }
}

/** Format 1.0: the number of ranges, then offset and length of each, one decimal number a line. */
function encodeMap(entry: Entry, ranges: readonly ByteRange[]): string {
  const lines: number[] = [0];
  let end = 0;
  for (const { offset, length } of ranges) {
    if (!Number.isSafeInteger(offset + length) || offset < end || length <= 0 || offset + length > entry.size)
      throw unrepresentable(entry.name, 'its data ranges are not ascending, or past its end');
    end = offset + length;
    if (end % BLOCK_BYTES !== 0 && end !== entry.size)
      throw unrepresentable(entry.name, 'a data range ends within a block');
    lines.push(offset, length);
  }
  // A file that ends in a hole needs an empty range there, or GNU tar leaves it short.
  if (end < entry.size || lines.length === 1) lines.push(entry.size, 0);
  lines[0] = (lines.length - 1) / 2;
  const map = `${lines.join('\n')}\n`;
  if (map.length > MAX_MAP_BYTES) throw unrepresentable(entry.name, `it has ${ranges.length} data ranges`);
  return map;
}

/** One ustar block into zeroed bytes. Numbers must fit; names are cut only where a pax record has them whole. */
function writeBlock(
  out: Buffer,
  at: number,
  name: string,
  mode: number,
  uid: number,
  gid: number,
  size: number,
  mtime: number,
  flag: number,
  linkname = '',
  devmajor?: number,
  devminor?: number,
): void {
  out.write(name, at, 100, 'latin1');
  octal(out, at + 100, 7, mode);
  octal(out, at + 108, 7, uid);
  octal(out, at + 116, 7, gid);
  octal(out, at + 124, 11, size);
  octal(out, at + 136, 11, mtime);
  out[at + 156] = flag;
  if (linkname !== '') out.write(linkname, at + 157, 100, 'latin1');
  MAGIC.copy(out, at + 257);
  octal(out, at + 329, 7, devmajor ?? 0);
  octal(out, at + 337, 7, devminor ?? 0);

  // Bytes that are zero for sure are left out: the sum over whole blocks was a third of the encoder's time.
  let sum = 8 * 0x20 + MAGIC_SUM;
  sum += sumOf(out, at, at + Math.min(name.length, 100));
  sum += sumOf(out, at + 100, at + 157);
  if (linkname !== '') sum += sumOf(out, at + 157, at + 257);
  sum += sumOf(out, at + 329, at + 345);
  octal(out, at + 148, 6, sum);
  out[at + 155] = 0x20;
}

function sumOf(out: Buffer, from: number, to: number): number {
  let sum = 0;
  for (let i = from; i < to; i++) sum += out[i] as number;
  return sum;
}

function octal(out: Buffer, at: number, digits: number, value: number): void {
  let rest = value;
  // 32 bits at a time is several times faster than the division that larger numbers need.
  if (value <= 0x7fffffff) {
    for (let i = at + digits - 1; i >= at; i--, rest >>= 3) out[i] = 0x30 + (rest & 7);
    return;
  }
  for (let i = at + digits - 1; i >= at; i--) {
    const next = Math.floor(rest / 8);
    out[i] = 0x30 + (rest - next * 8);
    rest = next;
  }
}
