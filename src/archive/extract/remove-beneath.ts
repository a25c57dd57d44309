import { closeSync, constants } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import { AT_REMOVEDIR, NO_LINKS, RESOLVE_NO_XDEV } from '../../openat.js';

const RESOLVE = NO_LINKS | RESOLVE_NO_XDEV;

/**
 * Removes all that lies in a directory held open, not the directory itself. Follows no link and enters no other
 * file system, whoever moves things about meanwhile: `fs.rm` resolves whole paths again and again, and can be
 * led astray between two of them.
 */
export async function removeBelow(dirfd: number): Promise<void> {
  const { openat2, unlinkat } = native();
  for (const name of await readdir(`/proc/self/fd/${dirfd}`, { encoding: 'latin1' })) {
    const bytes = Buffer.from(name, 'latin1');
    try {
      unlinkat(dirfd, bytes, 0);
      continue;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') continue;
      if (errnoOf(error) !== 'EISDIR') throw error;
    }
    await setImmediate();
    const child = openat2(dirfd, bytes, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW, 0, RESOLVE);
    try {
      await removeBelow(child);
    } finally {
      closeSync(child);
    }
    unlinkat(dirfd, bytes, AT_REMOVEDIR);
  }
}
