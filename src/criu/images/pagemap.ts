import { join } from 'node:path';
import { pagemap_entry, pagemap_head } from '../generated/criu.js';
import { CriuError } from '../errors/criu-error.js';
import { imageEntries, toNumber } from './image-file.js';

const PAGEMAP_MAGIC = 0x56084025;
// criu/include/pagemap.h: PE_PARENT, PE_PRESENT
const IN_PARENT = 1 << 0;
const PRESENT = 1 << 2;

export interface DumpedPages {
  /** The file that holds them: `pages-<id>.img`. */
  file: string;
  /** How many it must hold; those of parent images are not among them. */
  pages: number;
}

/**
 * Reads `pagemap-<pid>.img`.
 * @throws CriuError CRIU_IMAGE
 */
export async function readPagemap(imagesDir: string, pid: number): Promise<DumpedPages> {
  const path = join(imagesDir, `pagemap-${pid}.img`);
  let file: string | undefined;
  let pages = 0;
  const decode = (data: Uint8Array): void => {
    if (file === undefined) file = `pages-${pagemap_head.decode(data).pagesId}.img`;
    else pages += pagesOf(pagemap_entry.decode(data));
  };
  for await (const _ of imageEntries(path, PAGEMAP_MAGIC, decode));
  if (file === undefined) throw new CriuError('CRIU_IMAGE', { path, reason: 'it is empty' });
  return { file, pages };
}

/** Old images have no flags. Source: criu/pagemap.c, init_compat_pagemap_entry. */
function pagesOf({ flags, inParent, nrPages, compatNrPages }: pagemap_entry): number {
  const isHere = inParent !== true && (flags == null || (flags & (PRESENT | IN_PARENT)) === PRESENT);
  if (!isHere) return 0;
  return nrPages == null ? compatNrPages : toNumber(nrPages);
}
