/** The newest archive of a directory that is good for something. */
import { ArchiveError, type ArchiveErrorCode } from '../../archive/index.js';
import type { OptionNames } from '../../bad-option.js';
import { StillframeError } from '../../errors.js';
import { isOurs } from '../../safe-path.js';
import { bad, requirePath } from '../base/check-option.js';
import { CheckpointError, type CheckpointErrorCode, type SkippedArchive } from '../base/checkpoint-error.js';
import { verify, type ArchiveVerification, type VerifyOptions } from '../inspect.js';
import { refuseUnknown } from '../option-names.js';
import { ArchiveDirectory, type ArchiveFile } from './archive-directory.js';
import { parseArchiveName } from './archive-name.js';
import { newestFirst } from './list.js';
import { lookAt, type ListedArchive } from './listed-archive.js';

/** What was found, and what is newer and could not be used. */
export interface Latest<T> {
  archive: ListedArchive;
  /** What `attempt` made of it. */
  result: T;
  /** The newest first. */
  skipped: SkippedArchive[];
}

export interface LatestOptions {
  /** Only archives of the program of this name. Default: all of the directory. */
  program?: string | undefined;
  /** Called with each archive that is passed over, before the next one is tried. It must not throw. */
  onSkipped?: ((skipped: SkippedArchive) => void) | undefined;
  /** Failures of `attempt` after which the next older archive is tried, besides the archive's own faults. */
  mayPass?: ((error: unknown) => boolean) | undefined;
  signal?: AbortSignal | undefined;
}

const OPTIONS: OptionNames<LatestOptions> = { program: true, onSkipped: true, mayPass: true, signal: true };

/** What is the archive's own fault. */
const OF_ARCHIVE: readonly ArchiveErrorCode[] = [
  'NOT_AN_ARCHIVE',
  'FORMAT_TOO_NEW',
  'ARCHIVE_UNREADABLE',
  'ARCHIVE_TRUNCATED',
  'ARCHIVE_DAMAGED',
  'ARCHIVE_UNSUPPORTED',
  'MEMBER_MISSING',
  'UNSAFE_PATH',
  'UNSAFE_LINK',
  'UNSAFE_MEMBER',
];
const OF_CHECKPOINT: readonly CheckpointErrorCode[] = ['NOT_A_CHECKPOINT', 'OPEN_FILE_DIFFERS', 'ARCHIVE_UNSAFE'];

/** It is at fault: it is damaged, or no checkpoint that can be restored here; an older one may be better. */
function isFaultOfArchive(error: unknown): boolean {
  if (error instanceof ArchiveError) return OF_ARCHIVE.includes(error.code);
  return error instanceof CheckpointError && OF_CHECKPOINT.includes(error.code);
}

/**
 * Calls `attempt` with the newest archive of a directory, and, as long as that fails through the archive's own fault
 * (or as `mayPass` says), with the next older one. As nobody names the file, the directory and the archive must be such
 * that only root and the caller can have put them there.
 * @throws CheckpointError BAD_OPTION, ARCHIVE_DIR_UNUSABLE, ARCHIVE_UNSAFE (the directory), NO_ARCHIVE with what was
 * passed over; what else `attempt` throws; the signal's reason
 */
export async function withLatestArchive<T>(
  dir: string,
  attempt: (archivePath: string, listed: ListedArchive) => Promise<T>,
  options: LatestOptions = {},
): Promise<Latest<T>> {
  requirePath('dir', dir);
  if (typeof attempt !== 'function') bad('attempt', attempt, 'a function');
  refuseUnknown(options, OPTIONS);
  const { program, onSkipped, mayPass, signal } = options;
  using directory = await ArchiveDirectory.open(dir);
  if (directory.unsafe !== undefined)
    throw new CheckpointError('ARCHIVE_UNSAFE', { path: directory.path, why: directory.unsafe });
  const skipped: SkippedArchive[] = [];
  for (const { file, listed } of await candidates(directory, program, signal)) {
    try {
      if (listed.problem !== undefined) throw listed.problem;
      requireOwn(listed.path, file);
      return { archive: listed, result: await attempt(listed.path, listed), skipped };
    } catch (error) {
      if (signal?.aborted === true || !(isFaultOfArchive(error) || mayPass?.(error) === true)) throw error;
      const passed = skippedFor(listed.path, error);
      skipped.push(passed);
      onSkipped?.(passed);
    }
  }
  throw new CheckpointError('NO_ARCHIVE', { dir: directory.path, program, skipped });
}

/**
 * The newest archive of a directory of which every byte is right and that CRIU would restore, as `verify()` sees it.
 * @throws what `withLatestArchive()` throws
 */
export async function latestArchive(
  dir: string,
  options: LatestOptions & Pick<VerifyOptions, 'tmpDir' | 'maxUnpackedBytes'> = {},
): Promise<Latest<ArchiveVerification>> {
  refuseUnknown(options, { ...OPTIONS, tmpDir: true, maxUnpackedBytes: true } as const);
  const { tmpDir, maxUnpackedBytes, ...rest } = options;
  const { signal } = rest;
  const limits = {
    ...(tmpDir === undefined ? {} : { tmpDir }),
    ...(maxUnpackedBytes === undefined ? {} : { maxUnpackedBytes }),
    ...(signal === undefined ? {} : { signal }),
  };
  const attempt = async (archivePath: string): Promise<ArchiveVerification> => {
    const verified = await verify(archivePath, limits);
    const [fault] = verified.restorable.faults;
    if (fault !== undefined) throw new CheckpointError('NOT_A_CHECKPOINT', { archivePath, what: fault.message });
    return verified;
  };
  return withLatestArchive(dir, attempt, rest);
}

interface Candidate {
  file: ArchiveFile;
  listed: ListedArchive;
}

async function candidates(
  directory: ArchiveDirectory,
  program: string | undefined,
  signal: AbortSignal | undefined,
): Promise<Candidate[]> {
  const found: Candidate[] = [];
  for (const file of directory.files()) {
    signal?.throwIfAborted();
    const listed = await lookAt(directory, file, signal);
    if (listed === undefined) continue;
    if (program === undefined || isOf(program, file, listed)) found.push({ file, listed });
  }
  return newestFirst(found, ({ listed }) => listed);
}

/** A damaged one may be of any program, unless its name says which: it is passed over, and said to be. */
function isOf(program: string, { name }: ArchiveFile, { state, of }: ListedArchive): boolean {
  if (state === 'damaged') return (parseArchiveName(name)?.series ?? program) === program;
  return of?.kind === 'process-tree' && of.program?.name === program;
}

function skippedFor(path: string, error: unknown): SkippedArchive {
  const message = error instanceof Error ? error.message : String(error);
  return { path, code: error instanceof StillframeError ? error.code : undefined, message };
}

const WRITABLE_BY_OTHERS = 0o022;

function requireOwn(path: string, { uid, mode }: ArchiveFile): void {
  const isOpen = (mode & WRITABLE_BY_OTHERS) !== 0;
  const why = !isOurs(uid) ? `belongs to uid ${uid}` : isOpen ? 'can be written to by others' : undefined;
  if (why !== undefined) throw new CheckpointError('ARCHIVE_UNSAFE', { path, why });
}
