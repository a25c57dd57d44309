/** Removal by descriptors. `fs.rm` resolves whole paths again and again, and can be led astray between two of them. */
import { fstatSync } from 'node:fs';
import { errnoOf } from './errors.js';
import { native } from './native.js';
import { AT_REMOVEDIR, lstatAt } from './openat.js';
import { whenAborted } from './when-aborted.js';

const ALL = Buffer.alloc(0);

/**
 * Removes all that lies in a directory held open, not the directory itself. Follows no link and enters no mount,
 * whoever moves things about meanwhile. The time is linear in the number of entries, however deep they lie.
 * @throws errno errors: EXDEV or EBUSY at a mount point, EPERM for what must not be removed; the signal's reason
 */
export function removeBelow(dirfd: number, signal?: AbortSignal): Promise<void> {
  return remove(dirfd, ALL, signal);
}

/** The same for one entry of it, with all below it; one that does not exist is no failure. */
export function removeAt(dirfd: number, name: Buffer, signal?: AbortSignal): Promise<void> {
  if (name.length === 0) throw new TypeError('a name was expected');
  return remove(dirfd, name, signal);
}

async function remove(dirfd: number, name: Buffer, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  const cancelled = new Int32Array(1);
  const forget = whenAborted(signal, () => (cancelled[0] = 1));
  try {
    await native().removeAt(dirfd, name, cancelled);
  } catch (error) {
    if (errnoOf(error) === 'ECANCELED') signal?.throwIfAborted();
    throw error;
  } finally {
    forget();
  }
}

/**
 * Removes an empty directory by the name it was given, if it is still the one that is held open: under that name there
 * may be another by now, where somebody else can rename it.
 * @throws errno errors of rmdir(2)
 */
export function removeEmptied(parentFd: number, name: Buffer, fd: number): void {
  const now = lstatAt(parentFd, name);
  const { dev, ino } = fstatSync(fd, { bigint: true });
  if (now?.dev === dev && now.ino === ino) native().unlinkat(parentFd, name, AT_REMOVEDIR);
}
