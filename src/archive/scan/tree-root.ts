import { closeSync } from 'node:fs';
import { isOpenToOthers, isOurs, requireOwnLink, UnsafePathError } from '../../safe-path.js';
import { walk, type WalkedEntry, type WalkedLink } from '../../walk.js';

/**
 * Opens what a tree's path names. A directory that belongs to another user may be archived, and may be on the way; but
 * nobody other than root and the caller chooses by a symbolic link what that is. So links are followed only on the way,
 * where both they and all directories down to them belong to root or the caller, and no other user can write to these
 * (unless sticky, as /tmp is). What the path ends in is never a link.
 * @param path Absolute.
 * @throws UnsafePathError; errno errors; the signal's reason
 */
export async function openTreeRoot(path: Buffer, signal?: AbortSignal): Promise<WalkedEntry> {
  /** Why the names below are not only root's and the caller's to give. */
  let others: string | undefined;
  const rules = {
    enter: ({ path: at, uid, mode }: WalkedEntry): void => {
      // An absolute link leads away from all that.
      if (at.equals(Buffer.from('/'))) others = undefined;
      if (!isOurs(uid)) others ??= `uid ${uid}`;
      else if (isOpenToOthers(mode)) others ??= `whoever may write to ${at.toString()}`;
    },
    follow: (link: WalkedLink): void => {
      requireOwnLink(link);
      if (others !== undefined) throw new UnsafePathError(link.path, `is a symbolic link where ${others} can put one`);
      if (link.isLast) throw new UnsafePathError(link.path, `is a symbolic link to ${link.target.toString()}`);
    },
  };
  return walk(path, rules, signal);
}

/** Where the tree really lies, and the device that it is on. @throws as openTreeRoot */
export async function locateTree(path: string, signal?: AbortSignal): Promise<{ root: Buffer; dev: bigint }> {
  const { path: root, fd, dev } = await openTreeRoot(Buffer.from(path), signal);
  closeSync(fd);
  return { root, dev };
}
