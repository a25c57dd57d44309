/**
 * Walking to a directory whose path somebody else wrote down: no step may be one that another user could have chosen.
 * It is the idea of systemd's CHASE_SAFE (src/basic/chase.c and fs-util.c, "unsafe_transition"), with two rules more: a
 * directory of a third user is not entered, and a link is followed only where nobody but root and the caller could have
 * put it.
 */
import { requireDirectory, walk, type WalkedEntry, type WalkedLink } from './walk.js';

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/** Where a path goes through what another user can exchange. */
export class UnsafePathError extends Error {
  override readonly name = 'UnsafePathError';
  /** As far as it had been walked. */
  readonly path: string;
  constructor(
    path: Buffer,
    readonly why: string,
  ) {
    super(`${path.toString()} ${why}`);
    this.path = path.toString();
  }
}

export interface SafeDirectory {
  /** Opened with O_PATH; the caller's to close. */
  fd: number;
  /**
   * Whose directory it is, as far as trust goes: undefined for root's and the caller's own, which nobody else can write
   * to.
   */
  owner: number | undefined;
}

/**
 * Opens an absolute directory, from the root on, each component below the one that is held open before it.
 * @param ownedBy A user whose directories may be on the way, besides root's and the caller's own: below one of theirs
 *   all is theirs, and no link is followed.
 * @throws UnsafePathError; errno errors
 */
export async function openSafely(path: string, ownedBy: number | undefined): Promise<SafeDirectory> {
  let owner: number | undefined;
  const { fd } = await walk(path, {
    enter: (entry) => {
      requireDirectory(entry);
      owner = ownerOf(entry, owner, ownedBy);
    },
    follow: (link) => {
      requireOwnLink(link);
      if (owner !== undefined)
        throw new UnsafePathError(link.path, `is a symbolic link in a directory of uid ${owner}`);
    },
  });
  return { fd, owner };
}

/** @throws UnsafePathError for a link of another user's */
export function requireOwnLink({ path, uid }: WalkedLink): void {
  if (!isOurs(uid)) throw new UnsafePathError(path, `is a symbolic link that belongs to uid ${uid}`);
}

/** Whether a file belongs to root or to this process's user. */
export function isOurs(uid: number): boolean {
  return uid === 0 || uid === process.geteuid?.();
}

/** Whether others can rename what is in a directory. An access control list shows in the group's bits. */
export function isOpenToOthers(mode: number): boolean {
  return (mode & WRITABLE_BY_OTHERS) !== 0 && (mode & STICKY) === 0;
}

/** Whose a directory is. `parent` is whose its parent is. */
function ownerOf(
  { path, uid, mode }: WalkedEntry,
  parent: number | undefined,
  ownedBy: number | undefined,
): number | undefined {
  if (parent !== undefined && uid !== parent)
    throw new UnsafePathError(path, `belongs to uid ${uid}, in a directory of uid ${parent}`);
  if (!isOurs(uid) && uid !== ownedBy) throw new UnsafePathError(path, `belongs to uid ${uid}`);
  if (!isOurs(uid)) return uid;
  if (isOpenToOthers(mode))
    throw new UnsafePathError(path, `has mode ${(mode & 0o7777).toString(8)}: others can rename what is in it`);
  return undefined;
}
