import { errnoOf, StillframeError, type ErrorTexts } from '../../errors.js';
import { printable } from './byte-text.js';

export type ArchiveErrorCode =
  // Reading
  | 'NOT_AN_ARCHIVE'
  | 'FORMAT_TOO_NEW'
  | 'ARCHIVE_UNREADABLE'
  | 'ARCHIVE_TRUNCATED'
  | 'ARCHIVE_DAMAGED'
  | 'ARCHIVE_UNSUPPORTED'
  | 'ARCHIVE_TOO_BIG'
  | 'MEMBER_MISSING'
  | 'MEMBER_TOO_BIG'
  // Extracting
  | 'UNSAFE_PATH'
  | 'UNSAFE_LINK'
  | 'UNSAFE_MEMBER'
  | 'DESTINATION_EXISTS'
  | 'DESTINATION_NOT_EMPTY'
  | 'DESTINATION_MISSING'
  | 'DESTINATION_MOUNTED'
  | 'DESTINATION_UNSAFE'
  | 'DESTINATION_FULL'
  | 'EXTRACT_FAILED'
  // Writing
  | 'OUTPUT_EXISTS'
  | 'OUTPUT_DIR_MISSING'
  | 'OUTPUT_FULL'
  | 'OUTPUT_FAILED'
  | 'TREE_MISSING'
  | 'TREE_UNREADABLE'
  | 'TREE_UNSAFE'
  | 'FILE_CHANGED'
  | 'CHANGE_UNNOTICED'
  | 'STAGING_INSIDE_TREE'
  | 'ENTRY_UNREPRESENTABLE';

/** What an archive error can be about. Each code fills the fields that it knows. */
export interface ArchiveFacts {
  /** The archive, as the caller named it. */
  archivePath?: string;
  /** A member's name, printable. */
  member?: string;
  /** A file or directory on this machine, printable. */
  path?: string;
  /** The target of a link, printable. */
  linkname?: string;
  /** Where there are several: the first of them, and how many there are. */
  paths?: string[];
  count?: number;
  /** What exactly is wrong, in a few words. */
  what?: string;
  /** Position in the (uncompressed) archive, in bytes. */
  offset?: number;
  /** How many bytes were needed, or found to be too many. */
  bytes?: number;
  /** The format's version found. */
  version?: number;
}

const archive = (f: ArchiveFacts): string =>
  f.archivePath === undefined ? 'the archive' : `the archive ${f.archivePath}`;
const member = (f: ArchiveFacts): string => (f.member === undefined ? '' : `, member ${f.member}`);
const what = (f: ArchiveFacts): string => (f.what === undefined ? '' : `: ${f.what}`);
const at = (f: ArchiveFacts): string => (f.offset === undefined ? '' : ` (at byte ${f.offset})`);
const path = (f: ArchiveFacts): string => f.path ?? '(no path)';

/** One path, or all that are known, as far as a person reads on. */
function listed({ path = '(no path)', paths = [path], count = paths.length }: ArchiveFacts): string {
  const shown = paths.slice(0, 10);
  return shown.join(', ') + (count > shown.length ? `, and ${count - shown.length} more` : '');
}
const several = ({ count = 1 }: ArchiveFacts): boolean => count > 1;

const REPLACE = "`replaceFiles: 'keep'`, which keeps the old files under another name";

const texts: ErrorTexts<ArchiveErrorCode, ArchiveFacts> = {
  NOT_AN_ARCHIVE: (f) => ({
    what: `not a stillframe archive: ${f.archivePath ?? 'input'}${what(f)}`,
    remedy: 'Give the file that `stillframe checkpoint --output` wrote.',
  }),
  FORMAT_TOO_NEW: (f) => ({
    what: `${archive(f)} has format version ${f.version ?? '?'}, which this version of stillframe is too old to read`,
    remedy: 'Update stillframe.',
  }),
  ARCHIVE_TOO_BIG: (f) => ({
    what: `${archive(f)} ${f.what ?? 'unpacks to'} more than ${f.bytes} bytes`,
    remedy: 'If you trust it, free space where it is unpacked, or raise `maxUnpackedBytes`.',
  }),
  ARCHIVE_UNREADABLE: (f) => ({
    what: `cannot read ${archive(f)}${what(f)}`,
    remedy: 'Check that the path is right and readable.',
  }),
  ARCHIVE_TRUNCATED: (f) => ({
    what: `${archive(f)} is cut short${member(f)}${what(f)}${at(f)}`,
    remedy: 'Copy it again from its source, or make a new checkpoint.',
  }),
  ARCHIVE_DAMAGED: (f) => ({
    what: `${archive(f)} is damaged${member(f)}${what(f)}${at(f)}`,
    remedy: 'Copy it again from its source, or make a new checkpoint.',
  }),
  ARCHIVE_UNSUPPORTED: (f) => ({
    what: `${archive(f)} uses a tar feature that stillframe does not support${member(f)}${what(f)}`,
    remedy: 'Unpack it with the tool that made it, or pack it as a plain pax tar.',
  }),
  MEMBER_MISSING: (f) => ({
    what: `${archive(f)} has no member ${f.member ?? ''}${what(f)}`,
    remedy: 'List its members with: stillframe inspect',
  }),
  MEMBER_TOO_BIG: (f) => ({
    what: `${archive(f)}${member(f)} has more than ${f.bytes ?? '?'} bytes`,
    remedy: 'Extract it to a file, or raise `maxBytes`.',
  }),

  UNSAFE_PATH: (f) => ({
    what: `${archive(f)} contains an unsafe name${member(f)}${what(f)}`,
    remedy: 'Nothing was extracted. Do not trust this archive.',
  }),
  UNSAFE_LINK: (f) => ({
    what: `${archive(f)} contains an unsafe link${member(f)} -> ${f.linkname ?? '?'}${what(f)}`,
    remedy: 'Do not trust this archive.',
  }),
  UNSAFE_MEMBER: (f) => ({
    what: `${archive(f)} contains something that no checkpoint contains${member(f)}${what(f)}`,
    remedy: 'Nothing was extracted. Do not trust this archive.',
  }),
  DESTINATION_EXISTS: (f) => ({
    what: `${several(f) ? 'destinations exist' : 'the destination exists'}: ${listed(f)}${what(f)}`,
    remedy: several(f)
      ? `Replace them (${REPLACE}), or name others that do not exist (\`files\`).`
      : `Replace it (${REPLACE}), or name one that does not exist.`,
  }),
  DESTINATION_NOT_EMPTY: (f) => ({
    what: `${several(f) ? 'destinations are' : 'the destination is'} not empty: ${listed(f)}`,
    remedy: several(f)
      ? `Replace them (${REPLACE}), or name others that are empty or new (\`files\`).`
      : `Replace it (${REPLACE}), or name an empty or a new directory.`,
  }),
  DESTINATION_MISSING: (f) => ({
    what: `the destination cannot be opened: ${path(f)}`,
    remedy:
      errnoOf((f as { cause?: unknown }).cause) === 'ENOENT'
        ? 'Make its parent directory first, or name another destination.'
        : 'Name another destination, in a directory that this process can write to.',
  }),
  DESTINATION_MOUNTED: (f) => ({
    what: `the destination cannot be replaced: ${path(f)}${what(f)}`,
    remedy: 'Unmount it, or move its contents elsewhere and restore into the empty directory.',
  }),
  DESTINATION_UNSAFE: (f) => ({
    what: `the recorded destination of the files is not safe: ${path(f)}${what(f)}`,
    remedy:
      'Another user could have redirected it. Name the destination yourself: files: { NAME: DIR } (--files NAME=DIR).',
  }),
  DESTINATION_FULL: (f) => ({
    what: `no space left to extract ${f.member ?? 'a member'} to ${path(f)}`,
    remedy: 'Free space, or name a destination on another file system.',
  }),
  EXTRACT_FAILED: (f) => ({
    what: `cannot extract ${f.member ?? 'a member'} to ${path(f)}${what(f)}`,
    remedy: 'See the cause: space, privileges, or a limit of the file system.',
  }),

  OUTPUT_EXISTS: (f) => ({
    what: `the output exists: ${path(f)}`,
    remedy: 'Name another file, remove it first, or replace it with `overwrite: true`.',
  }),
  OUTPUT_DIR_MISSING: (f) => ({
    what: `the output directory does not exist: ${path(f)}`,
    remedy: 'Create it, or name another one.',
  }),
  OUTPUT_FULL: (f) => ({
    what: `no space left for the archive: ${path(f)}${f.bytes === undefined ? '' : ` (${f.bytes} bytes needed)`}`,
    remedy: 'Free space, or name an output on another file system.',
  }),
  OUTPUT_FAILED: (f) => ({
    what: `cannot write the archive: ${path(f)}${what(f)}`,
    remedy: 'Name an output on a writable file system, or see what the error means.',
  }),
  TREE_MISSING: (f) => ({ what: `the file tree does not exist: ${path(f)}`, remedy: 'Check the path given for it.' }),
  TREE_UNREADABLE: (f) => ({
    what: `cannot read a file of the tree: ${path(f)}${what(f)}`,
    remedy:
      errnoOf((f as { cause?: unknown }).cause) === 'EAGAIN'
        ? 'A process has a write lease on it (fcntl F_SETLEASE) and has it open for writing only. Leave it out of the tree.'
        : 'Run as root, or leave the file out of the tree.',
  }),
  TREE_UNSAFE: (f) => ({
    what: `the path of a file tree leads through a symbolic link that could be another user's choice: ${path(f)}`,
    remedy: 'Name what is to be archived itself, by a path without that link.',
  }),
  FILE_CHANGED: (f) => ({
    what: `a file changed while it was copied: ${path(f)}${what(f)}`,
    remedy: 'A process outside the cgroup writes to it: stop it, or leave the file out of the tree.',
  }),
  CHANGE_UNNOTICED: (f) => ({
    what: `the kernel did not report a change: ${path(f)}${what(f)}`,
    remedy: 'No archive was written. Try again with `watchFromMs: Infinity`, which looks at every file.',
  }),
  STAGING_INSIDE_TREE: (f) => ({
    what: `the archive would be staged inside a tree that is archived: ${path(f)}`,
    remedy: 'Put the output (`output`), or `workDir`, elsewhere.',
  }),
  ENTRY_UNREPRESENTABLE: (f) => ({
    what: `a tar archive cannot store ${f.path ?? f.member ?? 'this file'}${what(f)}`,
    remedy: 'Leave the file out of the tree.',
  }),
};

/** Everything that goes wrong while an archive is written, read or extracted. */
export class ArchiveError extends StillframeError<ArchiveErrorCode, ArchiveFacts> {
  override readonly name = 'ArchiveError';
  constructor(code: ArchiveErrorCode, facts: ArchiveFacts & { cause?: unknown }) {
    super(code, texts[code](facts), facts);
  }
}

/** `ENTRY_UNREPRESENTABLE` for a member of this name. */
export function unrepresentable(name: Uint8Array, reason: string): ArchiveError {
  return new ArchiveError('ENTRY_UNREPRESENTABLE', { member: printable(name), what: reason });
}
