/** Which destinations of an archive's trees hold other files, all of them, before anything is extracted. */
import { closeSync, statSync } from 'node:fs';
import { lstatAt } from '../../openat.js';
import { ArchiveError } from '../format/archive-error.js';
import type { VerifiedArchive } from '../read/verify.js';
import {
  isEmptyAt,
  isEmptyDirectory,
  isHeldOpen,
  lastName,
  openParent,
  pathOf,
  rootEntryOf,
  type Destination,
  type NamedDestination,
  type RootEntry,
} from './destination.js';

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
    if (isHeldOpen(destination)) continue;
    const path = pathOf(destination);
    const place = verified.trees.find(({ name }) => name.equals(Buffer.from(tree)));
    const root = place && (await rootEntryOf(verified.archive, place.range, place.root));
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

/** What is in the way at a destination, if anything is. */
async function kindOf(
  destination: NamedDestination,
  path: string,
  { isDirectory, uid }: RootEntry,
): Promise<'directory' | 'other' | undefined> {
  if (typeof destination === 'string') {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found === undefined) return undefined;
    if (!isDirectory || !found.isDirectory()) return 'other';
    return (await isEmptyDirectory(path)) ? undefined : 'directory';
  }
  const parent = await openParent(path, true, uid);
  try {
    const name = lastName(path);
    const found = lstatAt(parent.fd, name);
    // A link is not followed there, which is another refusal.
    if (found === undefined || found.isSymbolicLink()) return undefined;
    if (!isDirectory || !found.isDirectory()) return 'other';
    return (await isEmptyAt(parent.fd, name)) ? undefined : 'directory';
  } finally {
    closeSync(parent.fd);
  }
}
