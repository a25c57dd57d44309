/** Which destinations of an archive's trees hold other files, all of them, before anything is extracted. */
import { closeSync, constants, openSync, statSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { lstatAt, NO_LINKS } from '../../openat.js';
import { native } from '../../native.js';
import { ArchiveError } from '../format/archive-error.js';
import { ROOT_NAME } from '../format/names.js';
import { walkMembers } from '../read/reader.js';
import { relativeName } from '../read/refuse-unsafe.js';
import type { VerifiedArchive } from '../read/verify.js';
import { isEmptyDirectory, openParent, type Destination, type RootEntry } from './destination.js';

type Named = Exclude<Destination, { fd: number }>;

/** An error that is read by people need not name more. */
const MAX_PATHS = 100;

/**
 * Refuses destinations that hold other files, with the name of each. A destination that cannot be looked at is passed
 * over: extracting into it says what is wrong.
 * @throws ArchiveError DESTINATION_EXISTS, DESTINATION_NOT_EMPTY
 */
export async function refuseOccupied(
  verified: VerifiedArchive,
  destinations: readonly (readonly [tree: string, destination: Destination])[],
): Promise<void> {
  const occupied: { path: string; isDirectory: boolean }[] = [];
  for (const [tree, destination] of destinations) {
    if (typeof destination === 'object' && 'fd' in destination) continue;
    const path = resolve(typeof destination === 'string' ? destination : destination.recorded);
    const root = await rootOf(verified, tree);
    const found = root && (await kindOf(destination, path, root).catch(() => undefined));
    if (found !== undefined) occupied.push({ path, isDirectory: found === 'directory' });
  }
  const [first] = occupied;
  if (first === undefined) return;
  const paths = occupied.map(({ path }) => path);
  throw new ArchiveError(
    occupied.every(({ isDirectory }) => isDirectory) ? 'DESTINATION_NOT_EMPTY' : 'DESTINATION_EXISTS',
    { path: first.path, ...(paths.length === 1 ? {} : { paths: paths.slice(0, MAX_PATHS), count: paths.length }) },
  );
}

/** Of a tree, by its first member; undefined when there is none. */
async function rootOf({ archive, trees }: VerifiedArchive, tree: string): Promise<RootEntry | undefined> {
  const place = trees.find(({ name }) => name.equals(Buffer.from(tree)));
  if (place === undefined) return undefined;
  const root = place.record.layout === 'nested' ? ROOT_NAME : place.name.toString('latin1');
  for await (const { entry } of walkMembers(archive, place.range)) {
    if (relativeName(entry.name, root) !== '') return undefined;
    return { isDirectory: entry.type === 'directory', uid: entry.uid };
  }
  return undefined;
}

/** What is in the way at a destination, if anything is. */
async function kindOf(
  destination: Named,
  path: string,
  { isDirectory, uid }: RootEntry,
): Promise<'directory' | 'other' | undefined> {
  if (typeof destination === 'string') {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found === undefined) return undefined;
    if (!isDirectory || !found.isDirectory()) return 'other';
    return directoryUnlessEmpty(openSync(path, constants.O_RDONLY | constants.O_DIRECTORY));
  }
  const parent = await openParent(path, true, uid);
  try {
    const name = Buffer.from(basename(path) || '.');
    const found = lstatAt(parent.fd, name);
    // A link is not followed there, which is another refusal.
    if (found === undefined || found.isSymbolicLink()) return undefined;
    if (!isDirectory || !found.isDirectory()) return 'other';
    const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
    return await directoryUnlessEmpty(native().openat2(parent.fd, name, flags, 0, NO_LINKS));
  } finally {
    closeSync(parent.fd);
  }
}

async function directoryUnlessEmpty(fd: number): Promise<'directory' | undefined> {
  try {
    return (await isEmptyDirectory(fd)) ? undefined : 'directory';
  } finally {
    closeSync(fd);
  }
}
