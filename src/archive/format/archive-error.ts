import { errnoOf, StillframeError, type ErrorTexts, type FactsOf } from '../../errors.js';
import { printable } from './byte-text.js';

/** In an archive. @inline */
interface InArchive {
  /** As the caller named it. */
  archivePath?: string;
  /** A member's name, printable. */
  member?: string;
  /** What exactly is wrong, in a few words. */
  what?: string;
  /** Position in the (uncompressed) archive, in bytes. */
  offset?: number;
}

/** Of a file or directory on this machine, its path printable. @inline */
interface OnMachine {
  path: string;
  what?: string;
}

/** One, or several: the first of them, and how many there are. @inline */
interface Destinations extends OnMachine {
  paths?: string[];
  count?: number;
}

/** What is known when each code comes. */
export interface ArchiveFacts {
  NOT_AN_ARCHIVE: InArchive;
  FORMAT_TOO_NEW: InArchive & { version: number };
  ARCHIVE_UNREADABLE: InArchive;
  ARCHIVE_TRUNCATED: InArchive;
  ARCHIVE_DAMAGED: InArchive;
  ARCHIVE_UNSUPPORTED: InArchive;
  /** It unpacks to more, or has more, than so many bytes. */
  ARCHIVE_TOO_BIG: InArchive & { bytes: number };
  MEMBER_MISSING: InArchive & { member: string };
  /** More than so many bytes. */
  MEMBER_TOO_BIG: InArchive & { member: string; bytes: number };
  UNSAFE_PATH: InArchive;
  /** `linkname`: where it leads, printable. */
  UNSAFE_LINK: InArchive & { linkname: string };
  UNSAFE_MEMBER: InArchive;
  DESTINATION_EXISTS: Destinations;
  DESTINATION_NOT_EMPTY: Destinations;
  DESTINATION_MISSING: OnMachine;
  DESTINATION_MOUNTED: OnMachine;
  DESTINATION_UNSAFE: OnMachine;
  DESTINATION_FULL: OnMachine & { archivePath?: string; member?: string };
  EXTRACT_FAILED: OnMachine & { archivePath?: string; member?: string };
  OUTPUT_EXISTS: OnMachine;
  OUTPUT_DIR_MISSING: OnMachine;
  /** How many bytes were needed, if that is known. */
  OUTPUT_FULL: OnMachine & { bytes?: number };
  OUTPUT_FAILED: OnMachine;
  TREE_MISSING: OnMachine;
  TREE_UNREADABLE: OnMachine;
  TREE_UNSAFE: OnMachine;
  /** Without `path`: the name is not known. */
  FILE_CHANGED: Partial<OnMachine>;
  CHANGE_UNNOTICED: OnMachine;
  STAGING_INSIDE_TREE: OnMachine;
  ENTRY_UNREPRESENTABLE: { member: string; what: string };
}

export type ArchiveErrorCode = keyof ArchiveFacts;

/** Everything that goes wrong while an archive is written, read or extracted. */
export class ArchiveError<C extends ArchiveErrorCode = ArchiveErrorCode> extends StillframeError<
  C,
  FactsOf<ArchiveFacts, C>
> {
  override readonly name = 'ArchiveError';
  constructor(code: C, facts: ArchiveFacts[C] & { cause?: unknown }) {
    super(code, texts[code](facts), facts);
  }
}

/** `ENTRY_UNREPRESENTABLE` for a member of this name. */
export function unrepresentable(name: Uint8Array, reason: string): ArchiveError<'ENTRY_UNREPRESENTABLE'> {
  return new ArchiveError('ENTRY_UNREPRESENTABLE', { member: printable(name), what: reason });
}

const archive = (f: { archivePath?: string }): string =>
  f.archivePath === undefined ? 'the archive' : `the archive ${f.archivePath}`;
const member = (f: { member?: string }): string => (f.member === undefined ? '' : `, member ${f.member}`);
const what = (f: { what?: string }): string => (f.what === undefined ? '' : `: ${f.what}`);
const at = (f: { offset?: number }): string => (f.offset === undefined ? '' : ` (at byte ${f.offset})`);

/** One path, or all that are known, as far as a person reads on. */
function listed({ path, paths = [path], count = paths.length }: Destinations): string {
  const shown = paths.slice(0, 10);
  return shown.join(', ') + (count > shown.length ? `, and ${count - shown.length} more` : '');
}
const several = ({ count = 1 }: Destinations): boolean => count > 1;

const REPLACE = "`replaceFiles: 'keep'`, which keeps the old files under another name";

const texts: ErrorTexts<ArchiveFacts> = {
  NOT_AN_ARCHIVE: (f) => ({
    what: `not a stillframe archive: ${f.archivePath ?? 'input'}${what(f)}`,
    remedy: 'Give the file that `stillframe checkpoint --output` wrote.',
  }),
  FORMAT_TOO_NEW: (f) => ({
    what: `${archive(f)} has format version ${f.version}, which this version of stillframe is too old to read`,
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
    what: `${archive(f)} has no member ${f.member}${what(f)}`,
    remedy: 'List its members with: stillframe inspect',
  }),
  MEMBER_TOO_BIG: (f) => ({
    what: `${archive(f)}${member(f)} has more than ${f.bytes} bytes`,
    remedy: 'Extract it to a file, or raise `maxBytes`.',
  }),

  UNSAFE_PATH: (f) => ({
    what: `${archive(f)} contains an unsafe name${member(f)}${what(f)}`,
    remedy: 'Nothing was extracted. Do not trust this archive.',
  }),
  UNSAFE_LINK: (f) => ({
    what: `${archive(f)} contains an unsafe link${member(f)} -> ${f.linkname}${what(f)}`,
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
    what: `the destination cannot be opened: ${f.path}`,
    remedy:
      errnoOf(f.cause) === 'ENOENT'
        ? 'Make its parent directory first, or name another destination.'
        : 'Name another destination, in a directory that this process can write to.',
  }),
  DESTINATION_MOUNTED: (f) => ({
    what: `the destination cannot be replaced: ${f.path}${what(f)}`,
    remedy: 'Unmount it, or move its contents elsewhere and restore into the empty directory.',
  }),
  DESTINATION_UNSAFE: (f) => ({
    what: `the recorded destination of the files is not safe: ${f.path}${what(f)}`,
    remedy:
      'Another user could have redirected it. Name the destination yourself: files: { NAME: DIR } (--files NAME=DIR).',
  }),
  DESTINATION_FULL: (f) => ({
    what: `no space left to extract ${f.member ?? 'a member'} to ${f.path}`,
    remedy: 'Free space, or name a destination on another file system.',
  }),
  EXTRACT_FAILED: (f) => ({
    what: `cannot extract ${f.member ?? 'a member'} to ${f.path}${what(f)}`,
    remedy: 'See the cause: space, privileges, or a limit of the file system.',
  }),

  OUTPUT_EXISTS: (f) => ({
    what: `the output exists: ${f.path}`,
    remedy: 'Name another file, remove it first, or replace it with `overwrite: true`.',
  }),
  OUTPUT_DIR_MISSING: (f) => ({
    what: `the output directory does not exist: ${f.path}`,
    remedy: 'Create it, or name another one.',
  }),
  OUTPUT_FULL: (f) => ({
    what: `no space left for the archive: ${f.path}${f.bytes === undefined ? '' : ` (${f.bytes} bytes needed)`}`,
    remedy: 'Free space, or name an output on another file system.',
  }),
  OUTPUT_FAILED: (f) => ({
    what: `cannot write the archive: ${f.path}${what(f)}`,
    remedy: 'Name an output on a writable file system, or see what the error means.',
  }),
  TREE_MISSING: (f) => ({ what: `the file tree does not exist: ${f.path}`, remedy: 'Check the path given for it.' }),
  TREE_UNREADABLE: (f) => ({
    what: `cannot read a file of the tree: ${f.path}${what(f)}`,
    remedy:
      errnoOf(f.cause) === 'EAGAIN'
        ? 'A process has a write lease on it (fcntl F_SETLEASE) and has it open for writing only. Leave it out of ' +
          'the tree.'
        : 'Run as root, or leave the file out of the tree.',
  }),
  TREE_UNSAFE: (f) => ({
    what: `the path of a file tree leads through a symbolic link that could be another user's choice: ${f.path}`,
    remedy: 'Name what is to be archived itself, by a path without that link.',
  }),
  FILE_CHANGED: (f) => ({
    what: `a file changed while it was copied${f.path === undefined ? '' : `: ${f.path}`}${what(f)}`,
    remedy: 'A process outside the cgroup writes to it: stop it, or leave the file out of the tree.',
  }),
  CHANGE_UNNOTICED: (f) => ({
    what: `the kernel did not report a change: ${f.path}${what(f)}`,
    remedy: 'No archive was written. Try again with `watchFromMs: Infinity`, which looks at every file.',
  }),
  STAGING_INSIDE_TREE: (f) => ({
    what: `the archive would be staged inside a tree that is archived: ${f.path}`,
    remedy: 'Put the output (`output`), or `workDir`, elsewhere.',
  }),
  ENTRY_UNREPRESENTABLE: (f) => ({
    what: `a tar archive cannot store ${f.member}${what(f)}`,
    remedy: 'Leave the file out of the tree.',
  }),
};
