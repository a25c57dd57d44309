import { closeSync, constants, fstatSync, type Stats } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { native } from './native.js';
import { AT_FDCWD, O_PATH, RESOLVE_NO_SYMLINKS } from './openat.js';
import { isOpenToOthers, isOurs } from './safe-path.js';

/** A directory on the way is one that somebody else can rename or replace. */
export class UntrustedDirectoryError extends Error {
  override readonly name = 'UntrustedDirectoryError';
  constructor(
    readonly path: string,
    readonly why: string,
  ) {
    super(`${path} ${why}`);
  }
}

/**
 * Opens a directory that nobody but root and the caller can rename, or put another in the place of: itself and each one
 * above it belongs to one of the two, and is not writable for others, unless it is sticky (as /tmp is). Links are
 * followed first; what is looked at is each directory held open, from the root on, so that none can be exchanged in
 * between. Systemd calls it a safe transition: src/basic/fs-util.c, "unsafe_transition", and CHASE_SAFE.
 * @returns its real path, and a descriptor (O_PATH) that is the caller's to close
 * @throws UntrustedDirectoryError; errno errors, when it does not exist or is no directory
 */
export async function openTrusted(path: string): Promise<{ path: string; fd: number }> {
  const real = await realpath(path);
  const flags = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;
  let fd = native().openat2(AT_FDCWD, Buffer.from('/'), flags, 0, RESOLVE_NO_SYMLINKS);
  try {
    let walked = '';
    requireTrusted('/', fd);
    for (const part of real.split('/').filter((part) => part !== '')) {
      const next = native().openat2(fd, Buffer.from(part), flags, 0, RESOLVE_NO_SYMLINKS);
      closeSync(fd);
      fd = next;
      walked += `/${part}`;
      requireTrusted(walked, fd);
    }
    return { path: real, fd };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function requireTrusted(path: string, fd: number): void {
  const why = problemOf(fstatSync(fd));
  if (why !== undefined) throw new UntrustedDirectoryError(path, why);
}

function problemOf({ uid, mode }: Stats): string | undefined {
  if (!isOurs(uid)) return `belongs to uid ${uid}`;
  if (isOpenToOthers(mode)) return `has mode ${(mode & 0o7777).toString(8)}, so that others can rename what is in it`;
  return undefined;
}
