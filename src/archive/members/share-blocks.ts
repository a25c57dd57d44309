import { statfsSync } from 'node:fs';
import { BTRFS, XFS } from '../scan/copy-trust.js';

/** Statfs types on which two files can have the same blocks. (XFS can be made without; then they are copied.) */
const SHARING = new Set([XFS, BTRFS]);

/**
 * Whether what is copied from this file system into that file can be shared, not copied: of a whole page, and from the
 * start of one.
 */
export function sharesBlocks({ type }: { type: number }, fd: number): boolean {
  return SHARING.has(type) && statfsSync(`/proc/self/fd/${fd}`).type === type;
}
