import { join } from 'node:path';
import { pagemap_entry, pagemap_head } from '../generated/criu.js';
import { CriuError } from '../errors/criu-error.js';
import { imageEntries, toNumber } from './image-file.js';

const PAGEMAP_MAGIC = 0x56084025;
// criu/include/pagemap.h: PE_PARENT, PE_PRESENT
const IN_PARENT = 1 << 0;
const PRESENT = 1 << 2;

/** Pages beside each other, in memory and in the file of pages. */
export interface DumpedPages {
  address: number;
  pages: number;
  /** How many are before them in the file; undefined where a parent image has them. */
  before: number | undefined;
  /** `pages-<id>.img`, the file that has them, if it is not a parent's. */
  file: string;
}

export interface Pagemap {
  /** The file that holds the pages: `pages-<id>.img`. */
  file: string;
  /** How many it must hold. */
  pages: number;
}

/**
 * Reads `pagemap-<pid>.img`, or `pagemap-shmem-<id>.img` of shared memory, whose addresses begin with 0.
 * @param of A pid, or the id of shared memory.
 * @param onPages Told of each entry, in the order of their addresses.
 * @throws CriuError CRIU_IMAGE
 */
export async function readPagemap(
  imagesDir: string,
  of: number | { sharedId: number },
  onPages?: (pages: DumpedPages) => void,
): Promise<Pagemap> {
  const entries = walkPagemap(imagesDir, of);
  for (;;) {
    const { done, value } = await entries.next();
    if (done === true) return value;
    onPages?.(value);
  }
}

/** The same, entry by entry: of a process with very many, none is held. */
export async function* walkPagemap(
  imagesDir: string,
  of: number | { sharedId: number },
): AsyncGenerator<DumpedPages, Pagemap> {
  const path = join(imagesDir, `pagemap-${typeof of === 'number' ? of : `shmem-${of.sharedId}`}.img`);
  let file: string | undefined;
  let before = 0;
  const decode = (data: Uint8Array): DumpedPages | undefined => {
    if (file === undefined) {
      file = `pages-${pagemap_head.decode(data).pagesId}.img`;
      return undefined;
    }
    const entry = pagemap_entry.decode(data);
    const pages = entry.nrPages == null ? entry.compatNrPages : toNumber(entry.nrPages);
    const isHere = isInFile(entry);
    const found = { address: toNumber(entry.vaddr), pages, before: isHere ? before : undefined, file };
    if (isHere) before += pages;
    return found;
  };
  for await (const found of imageEntries(path, PAGEMAP_MAGIC, decode)) if (found !== undefined) yield found;
  if (file === undefined) throw new CriuError('CRIU_IMAGE', { path, reason: 'it is empty' });
  return { file, pages: before };
}

/** Old images have no flags. Source: criu/pagemap.c, init_compat_pagemap_entry. */
function isInFile({ flags, inParent }: pagemap_entry): boolean {
  return inParent !== true && (flags == null || (flags & (PRESENT | IN_PARENT)) === PRESENT);
}
