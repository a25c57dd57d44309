import { printable, readMemberRange, type Member, type OpenArchive } from '../../archive/index.js';
import { readPagemap, type DumpedMemory } from '../../criu/index.js';

const PAGE_BYTES = 4096;
/** Longer ones are cut. */
const MAX_BYTES = 128 * 1024;

/**
 * A process's arguments, which are in its memory: as many as its dump holds. Undefined where a parent image has their
 * page, or pages are compressed or missing.
 */
export async function readArguments(
  archive: OpenArchive,
  pagesMembers: ReadonlyMap<string, Member>,
  imagesDir: string,
  pid: number,
  { argsStart, argsEnd }: DumpedMemory,
): Promise<string[] | undefined> {
  const end = Math.min(argsEnd, argsStart + MAX_BYTES);
  const parts: { offset: number; length: number }[] = [];
  let at = argsStart;
  const { file } = await readPagemap(imagesDir, pid, ({ address, pages, before }) => {
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
  return text === '' ? [] : text.split('\0').map((argument) => printable(Buffer.from(argument, 'latin1')));
}
