import { fstatSync, lstatSync } from 'node:fs';
import { ArchiveError } from '../format/archive-error.js';
import { printable } from '../format/byte-text.js';
import { checkTar, type RefusalOptions } from '../read/refuse-unsafe.js';
import {
  closeDestination,
  isHeldOpen,
  openDestination,
  pathOf,
  remover,
  removeTarget,
  rootEntryOf,
  type Destination,
  type RootEntry,
} from './destination.js';
import { Extraction, type ExtractionOptions, type ExtractProgress } from './extraction.js';
import { Replacement, type ReplaceOptions } from './replacement.js';
import { readMember, walkMembers, type OpenArchive, type TarRange } from '../read/reader.js';
import { placeOf } from '../read/places.js';
import type { VerifiedArchive } from '../read/verify.js';

export interface ExtractOptions extends ExtractionOptions {
  /** The tree's root. A directory may exist when it is empty, a single file must not; the parent must exist. */
  destination: Destination;
  /**
   * Device nodes give whoever may open them the device itself. Default 'create', as a container's tree may need them.
   */
  devices?: 'create' | 'refuse' | undefined;
  /** Leaves what was extracted before a failure. Default: all of it is removed again. */
  keepPartial?: boolean | undefined;
  /**
   * Told of the destination's path before anything is made under it, where nothing is; and, of a directory, which one
   * it is before anything is put into it: for whoever removes it when we die. Not of a destination that the caller
   * holds open.
   */
  onDestination?:
    | { willMake: (path: string) => void; opened: (path: string, id: { dev: bigint; ino: bigint }) => Promise<void> }
    | undefined;
  /**
   * The destination may hold other files: the tree is made beside it then, hidden, until `replacement` is told to take
   * the place. Not for a destination that the caller holds open. Default: it must be empty.
   */
  replace?: ReplaceOptions | undefined;
}

export interface ExtractedTree extends ExtractProgress {
  /**
   * Takes the extraction back: removes the tree, with all that was put into it since, and the root when it was not
   * there before.
   */
  remove(): Promise<void>;
  /** With `replace`, where there was something to replace. */
  replacement: Replacement | undefined;
}

/**
 * Extracts one file tree of a verified archive: names, modes, owners, nanosecond times, links, devices,
 * attributes and holes. Its whole list of names and links is checked before anything is written, and
 * nothing is ever written outside the destination. On failure, what was made is removed again.
 * @param tree The tree's name in the archive.
 * @throws ArchiveError MEMBER_MISSING, DESTINATION_EXISTS, DESTINATION_NOT_EMPTY, DESTINATION_MISSING,
 * DESTINATION_UNSAFE,
 *   DESTINATION_FULL, DESTINATION_MOUNTED, UNSAFE_PATH, UNSAFE_LINK, EXTRACT_FAILED (which path, with the system's
 *   error as cause)
 */
export async function extractTree(
  options: ExtractOptions & { verified: VerifiedArchive; tree: string | Buffer },
): Promise<ExtractedTree> {
  const { verified } = options;
  const name = Buffer.from(options.tree);
  const place = verified.trees.find((candidate) => candidate.name.equals(name));
  if (place === undefined)
    throw new ArchiveError('MEMBER_MISSING', {
      archivePath: verified.archive.path,
      member: printable(name),
      what: 'no such tree',
    });
  const { range, root } = place;
  return extractTar({ ...options, archive: verified.archive, range, root });
}

/**
 * Extracts a directory that is not a listed tree, with all below it: CRIU's images are in `checkpoint`.
 * Promises and errors are those of `extractTree`.
 * @param options `images`: refuses what is not a regular file or directory, with UNSAFE_MEMBER. See `RefusalOptions`.
 */
export async function extractMembers(
  options: ExtractOptions & { verified: VerifiedArchive; prefix: string; images?: boolean },
): Promise<ExtractedTree> {
  const { verified, prefix } = options;
  return extractTar({ ...options, archive: verified.archive, range: rangeOf(verified, prefix), root: prefix });
}

/**
 * Refuses what `extractMembers` would refuse before it makes anything, for whom the archive is extracted by somebody
 * else.
 * @throws ArchiveError MEMBER_MISSING, UNSAFE_PATH, UNSAFE_LINK, UNSAFE_MEMBER
 */
export async function checkMembers(
  options: { verified: VerifiedArchive; prefix: string } & RefusalOptions,
): Promise<void> {
  const { verified, prefix } = options;
  await checkTar(verified.archive, rangeOf(verified, prefix), prefix, options);
}

function rangeOf({ archive, members }: VerifiedArchive, prefix: string): TarRange {
  const place = members.get(prefix);
  if (place === undefined) throw new ArchiveError('MEMBER_MISSING', { archivePath: archive.path, member: prefix });
  return { start: place.headerOffset, end: place.end };
}

/**
 * The content of one regular member.
 * @throws ArchiveError MEMBER_MISSING, MEMBER_TOO_BIG
 */
export async function readVerifiedMember(verified: VerifiedArchive, name: string, maxBytes: number): Promise<Buffer> {
  const { archive, members } = verified;
  const place = placeOf(members, name);
  const wanted = Buffer.from(name);
  if (place !== undefined) {
    for await (const member of walkMembers(archive, { start: place.headerOffset, end: place.end })) {
      if (!member.entry.name.equals(wanted)) continue;
      if (member.entry.type !== 'file') break;
      return readMember(archive, member, maxBytes);
    }
  }
  throw new ArchiveError('MEMBER_MISSING', { archivePath: archive.path, member: printable(wanted) });
}

/**
 * Extracts the members of a tar, or of a part of one, that lie at or below `root` ('.' for all). What the names
 * and links say is checked first; data and headers must have been verified, or be trusted for other reasons.
 */
export async function extractTar(
  options: ExtractOptions & { archive: OpenArchive; range: TarRange; root: string; images?: boolean | undefined },
): Promise<ExtractedTree> {
  const { archive, range, root, signal } = options;
  signal?.throwIfAborted();
  const rootType = await checkTar(archive, range, root, options);
  const rootEntry = { isDirectory: rootType === 'directory', uid: (await rootEntryOf(archive, range, root))?.uid };
  const path = pathOf(options.destination);
  const replacement = await openReplacement(options, rootEntry);
  if (replacement === undefined && !isThere(path)) options.onDestination?.willMake(path);
  const target = replacement?.target ?? (await openDestination(options.destination, rootEntry));
  const extraction = new Extraction(archive, target, options);
  try {
    if (rootEntry.isDirectory && replacement === undefined)
      await options.onDestination?.opened(path, fstatSync(target.fd, { bigint: true }));
    await extraction.run(range, root);
    const remove = replacement === undefined ? remover(target) : () => replacement.remove();
    return { ...extraction.progress, remove, replacement };
  } catch (error) {
    await replacement?.remove().catch(() => undefined);
    if (replacement === undefined && options.keepPartial !== true && extraction.begun)
      await removeTarget(target).catch(() => undefined);
    throw error;
  } finally {
    extraction.close();
    closeDestination(target);
  }
}

async function openReplacement(
  { destination, replace }: ExtractOptions,
  root: RootEntry,
): Promise<Replacement | undefined> {
  if (replace === undefined || isHeldOpen(destination)) return undefined;
  return Replacement.open(destination, root, replace);
}

/** Links are not followed. */
function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}
