import { printable, readMemberRange } from '../../archive/index.js';
import { readPagemap } from '../../criu/index.js';
import type { DumpedImagesOf } from './open-images.js';
import { PAGE_BYTES } from './page.js';

/** Longer ones are cut. */
const MAX_BYTES = 128 * 1024;

/**
 * Strings that end with a zero byte each, out of a process's memory: its arguments, its environment. Undefined where
 * this archive does not hold their pages, since a parent image has them, or they are compressed or missing.
 */
export async function readStrings(
  { archive, pages: pagesMembers, dir }: DumpedImagesOf,
  pid: number,
  range: { start: number; end: number },
): Promise<string[] | undefined> {
  const end = Math.min(range.end, range.start + MAX_BYTES);
  const parts: { offset: number; length: number }[] = [];
  let at = range.start;
  const { file } = await readPagemap(dir, pid, ({ address, pages, before }) => {
    if (at >= end || at < address || at >= address + pages * PAGE_BYTES || before === undefined) return;
    const length = Math.min(end, address + pages * PAGE_BYTES) - at;
    parts.push({ offset: before * PAGE_BYTES + at - address, length });
    at += length;
  });
  const member = pagesMembers.get(file);
  if (member === undefined || at < end) return undefined;
  const bytes: Buffer[] = [];
  for (const { offset, length } of parts) bytes.push(await readMemberRange(archive, member, offset, length));
  const text = Buffer.concat(bytes).toString('latin1').replace(/\0$/, '');
  return text === '' ? [] : text.split('\0').map((string) => printable(Buffer.from(string, 'latin1')));
}
