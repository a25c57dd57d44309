import { realpath } from 'node:fs/promises';
import { isOpenToOthers, isOurs } from './safe-path.js';
import { requireDirectory, walk, type WalkedEntry } from './walk.js';

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
  const { fd } = await walk(real, {
    enter: (entry) => {
      requireDirectory(entry);
      const why = problemOf(entry);
      if (why !== undefined) throw new UntrustedDirectoryError(entry.path.toString(), why);
    },
    follow: (link) => {
      throw new UntrustedDirectoryError(link.path.toString(), 'has just become a symbolic link');
    },
  });
  return { path: real, fd };
}

function problemOf({ uid, mode }: WalkedEntry): string | undefined {
  if (!isOurs(uid)) return `belongs to uid ${uid}`;
  if (isOpenToOthers(mode)) return `has mode ${(mode & 0o7777).toString(8)}, so that others can rename what is in it`;
  return undefined;
}
