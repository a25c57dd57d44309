import { lstatSync } from 'node:fs';
import { bytesFromJson, type JsonBytes } from '../../archive/index.js';
import { stampOf } from './find-outside-files.js';
import type { FileStamp, OutsideFile } from './outside-file.js';
import type { RecordedWarning } from './recorded.js';

/** A file outside the archive that is not as it was at the checkpoint, or of which nobody can say that it is. */
export interface ChangedFile {
  path: JsonBytes;
  use: OutsideFile['use'];
  /**
   * `unknown`: size and times are the same, which proves nothing for a file that was mapped shared and writable. A
   * write through a mapping moves no times on tmpfs, and elsewhere only the first one after a write-back does.
   */
  state: 'changed' | 'gone' | 'unknown';
  was: FileStamp;
  /** `undefined`: there is no such file. */
  now: FileStamp | undefined;
}

/**
 * Of the files that the checkpoint warned of, those that have changed or gone since, and those that may have. Files
 * without a stamp are not looked at.
 */
export function findChangedFiles(recorded: readonly RecordedWarning[]): ChangedFile[] {
  return recorded
    .filter(({ code }) => code === 'FILES_NOT_ARCHIVED')
    .flatMap(({ facts }) => (Array.isArray(facts['files']) ? facts['files'].filter(isOutsideFile) : []))
    .flatMap(({ path, use, bytes, mtimeNs, ctimeNs }) => {
      const now = stampNow(path);
      const same = now?.bytes === bytes && now.mtimeNs === mtimeNs && now.ctimeNs === ctimeNs;
      if (same && use !== 'mapped') return [];
      const state = now === undefined ? 'gone' : same ? 'unknown' : 'changed';
      return [{ path, use, state, was: { bytes, mtimeNs, ctimeNs }, now }];
    });
}

function stampNow(path: JsonBytes): ChangedFile['now'] {
  try {
    const stat = lstatSync(bytesFromJson(path), { bigint: true });
    return stat.isFile() ? stampOf(stat) : undefined;
  } catch {
    return undefined; // not there, or a path that the kernel does not take: the tree does not find it either
  }
}

/** An archive may come from anywhere. */
function isOutsideFile(value: unknown): value is Required<OutsideFile> {
  if (typeof value !== 'object' || value === null) return false;
  const { path, use, bytes, mtimeNs, ctimeNs } = value as Partial<Record<keyof OutsideFile, unknown>>;
  const isPath =
    typeof path === 'string' ||
    (typeof path === 'object' && path !== null && typeof (path as { base64?: unknown }).base64 === 'string');
  const isUse = use === 'mapped' || use === 'writing';
  return isPath && isUse && typeof bytes === 'number' && typeof mtimeNs === 'string' && typeof ctimeNs === 'string';
}
