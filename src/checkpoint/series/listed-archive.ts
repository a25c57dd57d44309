/** What a directory of archives holds, and what each of them is of: from its end alone. */
import { ArchiveError, readManifest, type Manifest } from '../../archive/index.js';
import { errnoOf } from '../../errors.js';
import { shown } from '../base/recorded-target.js';
import { parseOrigin, type ProgramOrigin } from '../program/record.js';
import { recordedWarnings } from '../warnings/recorded.js';
import type { ArchiveDirectory, ArchiveFile } from './archive-directory.js';
import { parseArchiveName } from './archive-name.js';

/** What was checkpointed, as the archive says. */
export type ArchivedTarget =
  | { kind: 'process-tree'; pid: number; program: ProgramOrigin | undefined }
  | { kind: 'container'; runtime: string; name: string };

export interface ListedArchive {
  path: string;
  /** Of the file. */
  bytes: number;
  /** When its checkpoint began, ISO 8601: by its manifest, or else by its name or the time of the file. */
  at: string;
  /** `whole`: its end is there, with a manifest that has its own digest. The members are not verified: see `verify`. */
  state: 'whole' | 'damaged';
  /** Of a damaged one. */
  problem: ArchiveError | undefined;
  compression: 'none' | 'gzip' | 'zstd' | undefined;
  /** Undefined for a damaged archive, and for one of another version that says it in another way. */
  of: ArchivedTarget | undefined;
  /** How long the tree stood still, in milliseconds, where the archive says so. */
  windowMs: number | undefined;
  /** How many warnings its checkpoint had. */
  warnings: number;
}

/** The names under which a damaged file counts as an archive, besides those of a series. */
const LIKE_AN_ARCHIVE = /\.(?:tar|tar\.gz|tgz|tar\.zst|tzst)$/;

/**
 * One file of a directory.
 * @returns undefined for what is none of ours, or gone
 * @throws the signal's reason
 */
export async function lookAt(
  directory: ArchiveDirectory,
  file: ArchiveFile,
  signal: AbortSignal | undefined,
): Promise<ListedArchive | undefined> {
  const path = directory.pathOf(file.name);
  const named = parseArchiveName(file.name);
  const ofFile = {
    path,
    bytes: file.bytes,
    at: new Date(Math.min(named?.atMs ?? file.mtimeMs, LATEST_MS)).toISOString(),
  };
  try {
    await using handle = await directory.openFile(file.name);
    // Of a compressed file all has to be read: not of any that there is.
    if (!LIKE_AN_ARCHIVE.test(file.name) && !(await isPlain(handle))) return undefined;
    const { manifest, compression } = await readManifest(handle, { name: path, signal });
    return { ...ofFile, ...described(manifest, named?.atMs), state: 'whole', problem: undefined, compression };
  } catch (error) {
    signal?.throwIfAborted();
    if (errnoOf(error) === 'ENOENT') return undefined;
    const problem =
      error instanceof ArchiveError
        ? error
        : new ArchiveError('ARCHIVE_UNREADABLE', { archivePath: path, cause: error });
    const isOthers = problem.code === 'NOT_AN_ARCHIVE' || !LIKE_AN_ARCHIVE.test(file.name);
    if (named === undefined && isOthers) return undefined;
    const unknown = { of: undefined, windowMs: undefined, warnings: 0, compression: undefined };
    return { ...ofFile, ...unknown, state: 'damaged', problem };
  }
}

/** The last time that a Date can hold: a file system may hold more. */
const LATEST_MS = 8.64e15;

async function isPlain(handle: Awaited<ReturnType<ArchiveDirectory['openFile']>>): Promise<boolean> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(262), 0, 262, 0);
  return bytesRead === 262 && buffer.toString('latin1', 257, 262) === 'ustar';
}

function described(
  { subject }: Manifest,
  namedMs: number | undefined,
): Pick<ListedArchive, 'of' | 'windowMs' | 'warnings'> & { at?: string } {
  const { createdAt, windowMs } = subject;
  const createdMs = typeof createdAt === 'string' ? Date.parse(createdAt) : NaN;
  // The name is never earlier than that of the archive before it, whatever the clock does.
  const atMs = namedMs ?? createdMs;
  return {
    of: targetOf(subject),
    windowMs: typeof windowMs === 'number' ? windowMs : undefined,
    warnings: recordedWarnings(subject).length,
    ...(Number.isNaN(atMs) ? {} : { at: new Date(atMs).toISOString() }),
  };
}

function targetOf({ kind, pid, program, container }: Record<string, unknown>): ArchivedTarget | undefined {
  if (kind === 'process-tree' && typeof pid === 'number') return { kind, pid, program: parseOrigin(program) };
  if (kind !== 'container' || typeof container !== 'object' || container === null) return undefined;
  const { runtime, name } = container as Record<string, unknown>;
  return { kind, runtime: shown(runtime), name: shown(name) };
}
