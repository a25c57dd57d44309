/**
 * What is in a journal, and what of it can be believed. A file in the state directory may have been written by another
 * version, cut short by a full disk, or put there by mistake.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { parseJson } from '../../archive/index.js';
import type { ProcessId } from '../../proc/identity.js';

/** What a journal says. It grows as the checkpoint goes on. */
export interface JournalEntry {
  format: 1;
  id: string;
  /** `waiting` for the lock, or `held`. */
  lock: 'waiting' | 'held';
  /** ISO 8601. */
  since: string;
  /** Pids mean something only in this boot and this pid namespace. */
  bootId: string;
  pidNamespace: string;
  /**
   * The root of the tree that is checkpointed or held frozen; a restore has none yet, a pod has none, and a `cgroup`
   * held frozen need have none.
   */
  target?: ProcessId;
  /** A restore, until it is finished. */
  restore?: JournalRestore;
  /** The directory that a pod's checkpoint makes. Its containers have journals of their own. */
  podDirectory?: string;
  cgroup?: JournalCgroup;
  /** The directory of a cgroup that was about to be made for an adoption. */
  newCgroup?: string;
  guardian?: ProcessId;
  criu?: ProcessId;
  window: 'never' | 'open' | 'closed';
  /** ISO 8601: when the window was opened. */
  windowSince?: string;
  /** The cgroup was frozen before us: it is left so. */
  foundFrozen: boolean;
  /** Our temporary directories and files. */
  removals: string[];
  /** What a restore has put other files in the place of, until it is kept or removed. */
  replacements?: JournalReplacement[];
  /** The archive of a restore that is finished, but for its `replacements`; or the copy's, for as long as it runs. */
  restored?: string;
  /** A copy that runs: with its end, its directory (in `removals`) and its cgroup go. */
  copy?: JournalCopy;
}

export interface JournalCopy {
  /** Its pid 1, as this pid namespace has it. */
  init: ProcessId;
  /** The cgroup that was made for it. */
  cgroup: string;
}

/** Old files, which are `tree` in the hidden directory once the new ones have their place. */
export interface JournalReplacement {
  path: string;
  /** The hidden directory's name, beside `path`. */
  hidden: string;
  /** What the old files are called when the restore is finished; undefined when they go. */
  keptName?: string;
  fresh: { device: string; inode: string };
  old: { device: string; inode: string };
}

/** What a restore has made so far, and will not stay if it dies. */
export interface JournalRestore {
  archivePath: string;
  /** Where it restores into. Not locked: others may restore into it, too. */
  cgroup?: { version: 1 | 2; path: string };
  /** The outermost cgroup that it has made. */
  madeCgroup?: string;
  /** The tree's root, and daemons of its own. */
  trees: ProcessId[];
  /** The pids that it is to make, which were free. */
  pids: number[];
  /** Names that nothing had before. */
  newNames: string[];
  /** Directories that were empty. */
  destinations: { path: string; device: string; inode: string }[];
  /** What the container runtime that restores writes when it has finished: then all stays. */
  finishedBy?: string;
}

export interface JournalCgroup {
  version: 1 | 2;
  path: string;
  /** The kernel's ids of the cgroup and of its ancestors, itself first: the same through every mount. */
  ids: string[];
  /** The directory of the cgroup from which the tree's root was adopted into this one. */
  adoptedFrom?: string;
  /** Processes of an adopted tree that came from elsewhere. */
  homes?: (ProcessId & { path: string })[];
}

/**
 * What every version writes alike, whatever its `format`, so that two versions never work on one tree: whoever raises
 * the number keeps these fields.
 */
export interface JournalClaim {
  bootId: string;
  pidNamespace: string;
  /** Neither for a restore or a pod: they lock nothing. Some have the cgroup alone. */
  target?: ProcessId;
  cgroup?: Pick<JournalCgroup, 'ids'>;
  guardian?: ProcessId;
  copy?: Pick<JournalCopy, 'init'>;
}

/** `entry`: of this version, whole. Else why it is not understood, and what it claims, where that can be read. */
export type JournalContent =
  { entry: JournalEntry } | { entry?: undefined; why: string; claim: JournalClaim | undefined };

/** A restore's grows with its processes, by some ten bytes each. */
const MAX_BYTES = 4 << 20;

/**
 * Whatever stands under that name is answered for: nothing here waits, follows a link, or reads more than a journal can
 * have.
 * @param id The id in its name, which the journal has to have, too.
 * @returns undefined when there is nothing of that name
 */
export function readEntry(path: string, id: string): JournalContent | undefined {
  let value: unknown;
  try {
    const bytes = readBounded(path);
    if (typeof bytes === 'string') return { why: bytes, claim: undefined };
    value = parseJson(bytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    return { why: `cannot be read: ${(error as Error).message}`, claim: undefined };
  }
  const claim = isClaim(value) ? value : undefined;
  if (!isObject(value)) return { why: 'is not a JSON object', claim };
  if (value['format'] !== 1)
    return {
      why:
        typeof value['format'] === 'number' ? `is of format ${value['format']}, not 1` : 'has no number for its format',
      claim,
    };
  if (value['id'] !== id) return { why: 'has another id than its name', claim };
  const wrong = Object.entries(fields).find(([name, isRight]) => !isRight(value[name]))?.[0];
  if (wrong !== undefined) return { why: `has no ${wrong} as it should be`, claim };
  const named = subjects.filter((name) => value[name] !== undefined).length;
  if (named > 1 || (named === 0 && value['cgroup'] === undefined))
    return { why: `has not one of ${subjects.join(', ')}, cgroup`, claim };
  return { entry: value as unknown as JournalEntry };
}

/** A text instead of the bytes says why there are none. */
function readBounded(path: string): Buffer | string {
  // Without O_NONBLOCK a FIFO would hold the caller for ever.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) return 'is not a regular file';
    if (stat.uid !== process.geteuid?.()) return `belongs to uid ${stat.uid}`;
    if (stat.size > MAX_BYTES) return `has ${stat.size} bytes, more than any journal`;
    const bytes = Buffer.alloc(stat.size);
    let length = 0;
    for (let got = -1; got !== 0 && length < bytes.length; length += got)
      got = readSync(fd, bytes, length, bytes.length - length, null);
    return bytes.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}

/** What a journal is of: a lock, or what locks nothing. A lock of a cgroup alone has none of them. */
const subjects = ['target', 'restore', 'restored', 'podDirectory'] as const;

type Check = (value: unknown) => boolean;

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
// What is said to the guardian ends with a NUL.
const isText: Check = (value) => typeof value === 'string' && !value.includes('\0');
const isPath: Check = (value) => isText(value) && (value as string).startsWith('/');
const isBoolean: Check = (value) => typeof value === 'boolean';
const isPid: Check = (value) => Number.isSafeInteger(value) && (value as number) > 0;
const isDigits: Check = (value) => typeof value === 'string' && /^\d{1,20}$/.test(value);
const isOneOf =
  (...values: readonly unknown[]): Check =>
  (value) =>
    values.includes(value);
const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);
const isListOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);
const isRecordOf =
  (checks: Readonly<Record<string, Check>>): Check =>
  (value) =>
    isObject(value) && Object.entries(checks).every(([name, check]) => check(value[name]));

const processId = { pid: isPid, startTime: isDigits };
const isProcess = isRecordOf(processId);
const isVersion = isOneOf(1, 2);
const isFileId = isRecordOf({ device: isDigits, inode: isDigits });
const isName: Check = (value) => isText(value) && /^[^/]+$/.test(value as string);
const isIds: Check = (value) => isListOf(isText)(value) && (value as unknown[]).length > 0;

const fields: Readonly<Record<Exclude<keyof JournalEntry, 'format' | 'id'>, Check>> = {
  lock: isOneOf('waiting', 'held'),
  since: isText,
  bootId: isText,
  pidNamespace: isText,
  target: optional(isProcess),
  restore: optional(
    isRecordOf({
      archivePath: isText,
      cgroup: optional(isRecordOf({ version: isVersion, path: isPath })),
      madeCgroup: optional(isPath),
      trees: isListOf(isProcess),
      pids: isListOf(isPid),
      newNames: isListOf(isText),
      destinations: isListOf(isRecordOf({ path: isText, device: isDigits, inode: isDigits })),
      finishedBy: optional(isPath),
    }),
  ),
  podDirectory: optional(isText),
  cgroup: optional(
    isRecordOf({
      version: isVersion,
      path: isPath,
      ids: isIds,
      adoptedFrom: optional(isPath),
      homes: optional(isListOf(isRecordOf({ ...processId, path: isPath }))),
    }),
  ),
  newCgroup: optional(isPath),
  guardian: optional(isProcess),
  criu: optional(isProcess),
  window: isOneOf('never', 'open', 'closed'),
  windowSince: optional(isText),
  foundFrozen: isBoolean,
  removals: isListOf(isText),
  replacements: optional(
    isListOf(isRecordOf({ path: isPath, hidden: isName, keptName: optional(isName), fresh: isFileId, old: isFileId })),
  ),
  restored: optional(isText),
  copy: optional(isRecordOf({ init: isProcess, cgroup: isPath })),
};

function isClaim(value: unknown): value is JournalClaim {
  return (
    isRecordOf({
      bootId: isText,
      pidNamespace: isText,
      target: optional(isProcess),
      cgroup: optional(isRecordOf({ ids: isIds })),
      guardian: optional(isProcess),
      copy: optional(isRecordOf({ init: isProcess })),
    })(value) &&
    // Without one of them it cannot be told what it locks.
    [...subjects, 'cgroup'].some((name) => (value as Record<string, unknown>)[name] !== undefined)
  );
}
