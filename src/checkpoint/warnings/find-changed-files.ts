import { bytesFromJson, type JsonBytes } from '../../archive/index.js';
import { lookUp } from '../../look-up.js';
import { Patience } from '../../when-aborted.js';
import { stampOf, type FileStamp, type OutsideFile } from './outside-file.js';
import type { RecordedWarning } from './recorded.js';

/** A file outside the archive that is not as it was at the checkpoint, or of which nobody can say that it is. */
export interface ChangedFile {
  path: JsonBytes;
  use: OutsideFile['use'];
  /**
   * `unknown`: size and times are the same, which proves nothing for a file that was mapped shared and writable. A
   * write through a mapping moves no times on tmpfs, and elsewhere only the first one after a write-back does.
   * `unanswered`: the file system, of this file or of one that is looked at with it, does not answer.
   */
  state: 'changed' | 'gone' | 'unknown' | 'unanswered';
  was: FileStamp;
  /** `undefined`: there is no such file, or no answer. */
  now: FileStamp | undefined;
}

/** So many files share a thread, which the first that does not answer holds up. */
const AT_ONCE = 64;
/** How long their file systems have to answer, together. */
const PATIENCE_MS = 2000;

/**
 * Of the files that the checkpoint warned of, those that have changed or gone since, and those that may have. Files
 * without a stamp are not looked at.
 * @throws the signal's reason
 */
export async function findChangedFiles(
  recorded: readonly RecordedWarning[],
  signal?: AbortSignal,
): Promise<ChangedFile[]> {
  const files = recorded
    .filter(({ code }) => code === 'FILES_NOT_ARCHIVED')
    .flatMap(({ facts }) => (Array.isArray(facts['files']) ? facts['files'].filter(isOutsideFile) : []));
  using patience = new Patience(PATIENCE_MS, signal);
  const changed: ChangedFile[] = [];
  for (let at = 0; at < files.length; at += AT_ONCE) {
    const some = files.slice(at, at + AT_ONCE);
    const found = await lookUpUnlessHeldUp(some, patience.signal, signal);
    some.forEach(({ path, use, bytes, mtimeNs, ctimeNs }, i) => {
      const was = { bytes, mtimeNs, ctimeNs };
      const now = found?.[i];
      const same = now?.bytes === bytes && now.mtimeNs === mtimeNs && now.ctimeNs === ctimeNs;
      if (same && use !== 'mapped') return;
      const state = found === undefined ? 'unanswered' : now === undefined ? 'gone' : same ? 'unknown' : 'changed';
      changed.push({ path, use, state, was, now });
    });
  }
  return changed;
}

/** A restore goes on without an answer: it may be that the tree can, too. */
async function lookUpUnlessHeldUp(
  files: readonly OutsideFile[],
  patience: AbortSignal,
  signal: AbortSignal | undefined,
): Promise<(FileStamp | undefined)[] | undefined> {
  if (patience.aborted) return giveUp(signal);
  // What the kernel would not take for a path leads nowhere, for the tree as for us.
  const paths = files.map(({ path }) => bytesFromJson(path)).map((path) => (isPath(path) ? path : Buffer.from('/')));
  try {
    const found = await lookUp(paths, { follow: false, stamps: true, signal: patience });
    return found.map((file) => (file?.isFile === true ? stampOf(file) : undefined));
  } catch {
    return giveUp(signal);
  }
}

function giveUp(signal: AbortSignal | undefined): undefined {
  signal?.throwIfAborted();
  return undefined;
}

/** `/` is no file. */
function isPath(path: Buffer): boolean {
  return path[0] === 0x2f && !path.includes(0);
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
