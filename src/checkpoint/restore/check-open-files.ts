import { statSync } from 'node:fs';
import { mayBeRegular, type DumpedFile } from '../../criu/index.js';
import { CheckpointError, type DifferingFile } from '../base/checkpoint-error.js';

/**
 * Compares the size of every open file that CRIU recorded with the file that the restore will find, as CRIU
 * will do: it refuses the whole restore for the first that differs, and names it in a log only.
 * Source: criu/files-reg.c, validate_file, CRIU v4.2.
 * @param root Where the restored tree's root directory is seen from here. Default: it is ours.
 * @throws CheckpointError OPEN_FILE_DIFFERS with each file
 */
export function checkOpenFiles(files: readonly DumpedFile[], root = ''): void {
  const differing = new Map<string, DifferingFile>();
  for (const file of files) {
    if (!isCompared(file)) continue;
    const path = file.path.toString();
    const found = Buffer.concat([Buffer.from(root), file.path]);
    const foundBytes = statSync(found, { throwIfNoEntry: false })?.size;
    if (foundBytes !== file.size) differing.set(path, { path, expectedBytes: file.size!, foundBytes });
  }
  if (differing.size > 0) throw new CheckpointError('OPEN_FILE_DIFFERS', { files: [...differing.values()] });
}

/** CRIU records no size where it compares none (append-only); deleted files are in the images. */
function isCompared(file: DumpedFile): boolean {
  return file.size !== undefined && mayBeRegular(file) && file.remap === undefined && !file.external;
}
