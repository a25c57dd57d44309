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
}

export interface Pagemap {
  /** The file that holds the pages: `pages-<id>.img`. */
  file: string;
  /** How many it must hold. */
  pages: number;
}

/**
 * Reads `pagemap-<pid>.img`.
 * @param onPages Told of each entry, in the order of their addresses.
 * @throws CriuError CRIU_IMAGE
 */
export async function readPagemap(
  imagesDir: string,
  pid: number,
  onPages?: (pages: DumpedPages) => void,
): Promise<Pagemap> {
  const path = join(imagesDir, `pagemap-${pid}.img`);
  let file: string | undefined;
  let before = 0;
  const decode = (data: Uint8Array): void => {
    if (file === undefined) {
      file = `pages-${pagemap_head.decode(data).pagesId}.img`;
      return;
    }
    const entry = pagemap_entry.decode(data);
    const pages = entry.nrPages == null ? entry.compatNrPages : toNumber(entry.nrPages);
    const isHere = isInFile(entry);
    onPages?.({ address: toNumber(entry.vaddr), pages, before: isHere ? before : undefined });
    if (isHere) before += pages;
  };
  for await (const _ of imageEntries(path, PAGEMAP_MAGIC, decode));
  if (file === undefined) throw new CriuError('CRIU_IMAGE', { path, reason: 'it is empty' });
  return { file, pages: before };
}

/** Old images have no flags. Source: criu/pagemap.c, init_compat_pagemap_entry. */
function isInFile({ flags, inParent }: pagemap_entry): boolean {
  return inParent !== true && (flags == null || (flags & (PRESENT | IN_PARENT)) === PRESENT);
}
