import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  ArchiveError,
  printable,
  readMember,
  walkMembers,
  type Member,
  type OpenArchive,
  type TarRange,
} from '../../archive/index.js';

/** The images that are looked into; those of memory can be large. */
const READ = new RegExp(
  '^checkpoint/((?:(?:inventory|pstree|files|remap-fpath|cgroup|memfd)' +
    '|(?:core|ids|mm|fs|pagemap|fdinfo|mountpoints)-\\d{1,10}|pagemap-shmem-\\d{1,20})\\.img)$',
);
const PAGES = /^checkpoint\/(pages-\d{1,10}\.img)$/;
/** Larger ones are no image of a task's: `files.img` has some hundred bytes a file. */
const MAX_IMAGE_BYTES = 256 * 1024 * 1024;

/**
 * Copies CRIU's images of processes and files into a directory, where their readers want them.
 * @param dir Private and empty.
 * @returns the images of memory, which stay where they are, by their names
 * @throws ArchiveError ARCHIVE_DAMAGED, ARCHIVE_TRUNCATED, MEMBER_TOO_BIG
 */
export async function copyImages(
  archive: OpenArchive,
  range: TarRange,
  dir: string,
  signal: AbortSignal | undefined,
): Promise<Map<string, Member>> {
  const pages = new Map<string, Member>();
  for await (const member of walkMembers(archive, range)) {
    signal?.throwIfAborted();
    const { entry } = member;
    if (entry.type !== 'file') continue;
    const name = entry.name.toString('latin1');
    const pagesName = PAGES.exec(name)?.[1];
    if (pagesName !== undefined) pages.set(pagesName, member);
    const image = READ.exec(name)?.[1];
    if (image === undefined) continue;
    const data = await readMember(archive, member, MAX_IMAGE_BYTES);
    // A name that comes twice is in nobody's archive.
    await writeFile(join(dir, image), data, { mode: 0o600, flag: 'wx' }).catch((cause: unknown) => {
      throw new ArchiveError('ARCHIVE_DAMAGED', { archivePath: archive.path, member: printable(entry.name), cause });
    });
  }
  return pages;
}
