import { requirePath } from '../base/check-option.js';
import { refuseUnknown } from '../option-names.js';
import { ArchiveDirectory } from './archive-directory.js';
import { lookAt, type ListedArchive } from './listed-archive.js';

export interface ArchiveList {
  /** The newest first. */
  archives: ListedArchive[];
  /** How many other files the directory has; those below it are not looked at. */
  otherFiles: number;
}

/**
 * The archives of a directory: of each what it is of, and whether it is whole as far as its end tells. A compressed one
 * is read to its end for that.
 * @throws CheckpointError BAD_OPTION, ARCHIVE_DIR_UNUSABLE; the signal's reason
 */
export async function listArchives(
  dir: string,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<ArchiveList> {
  requirePath('dir', dir);
  refuseUnknown<{ signal?: AbortSignal | undefined }>(options, { signal: true });
  const { signal } = options;
  using directory = await ArchiveDirectory.open(dir);
  const archives: ListedArchive[] = [];
  let otherFiles = 0;
  for (const file of directory.files()) {
    signal?.throwIfAborted();
    const found = await lookAt(directory, file, signal);
    if (found === undefined) otherFiles++;
    else archives.push(found);
  }
  return { archives: newestFirst(archives, (archive) => archive), otherFiles };
}

export function newestFirst<T>(all: T[], archiveOf: (one: T) => ListedArchive): T[] {
  return all.sort((one, other) => {
    const [a, b] = [archiveOf(one), archiveOf(other)];
    return a.at === b.at ? compare(b.path, a.path) : compare(b.at, a.at);
  });
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
