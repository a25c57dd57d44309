import {
  ArchiveError,
  inspectArchive,
  nameOfSource,
  openArchive,
  printable,
  readMember as readMemberOf,
  verifyArchive,
  walkMembers,
  type ArchiveSource,
  type Manifest,
  type OpenArchive,
} from '../archive/index.js';
import { recordedWarnings, type RecordedWarning } from './warnings/recorded.js';

export interface ArchiveMember {
  /** For people: bytes that are not UTF-8, and control characters, are shown as `\xNN`. */
  name: string;
  type: string;
  /** Apparent size of a regular file, in bytes. */
  bytes: number;
}

export interface ArchiveInspection {
  archivePath: string;
  compression: 'none' | 'gzip' | 'zstd';
  /** Undefined for an archive that another engine wrote. */
  manifest: Manifest | undefined;
  /** What the checkpoint warned of. */
  warnings: RecordedWarning[];
  members: ArchiveMember[];
}

export interface ArchiveVerification {
  archivePath: string;
  /** Regular members, every one of whose hashes is right, and the bytes they hold. */
  members: number;
  bytes: number;
  manifest: Manifest;
}

export interface ReadOptions {
  /** How errors and the result name the archive. Default: its path, or what it is. */
  archiveName?: string | undefined;
  signal?: AbortSignal;
  /** Where a compressed archive is unpacked to, and a stream is kept: needs its whole size. Default: the system's temporary directory. */
  tmpDir?: string;
  /** How much a compressed archive may unpack to, and a stream may bring, in bytes. Default: nine tenths of what is free where it is unpacked. */
  maxUnpackedBytes?: number | undefined;
}

/**
 * What an archive says it holds. Nothing is verified; see `verify`.
 * @throws ArchiveError NOT_AN_ARCHIVE, ARCHIVE_UNREADABLE, ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED
 */
export async function inspect(source: ArchiveSource, options: ReadOptions = {}): Promise<ArchiveInspection> {
  await using archive = await open(source, options);
  const members: ArchiveMember[] = [];
  const manifest = await inspectArchive(archive, {
    signal: options.signal,
    onMember: ({ entry: { name, type, size } }) => members.push({ name: printable(name), type, bytes: size }),
  });
  return {
    archivePath: archive.path,
    compression: archive.compression,
    manifest,
    warnings: recordedWarnings(manifest?.subject ?? {}),
    members,
  };
}

/**
 * Checks every byte of an archive against its manifest.
 * @throws ArchiveError ARCHIVE_DAMAGED with the member, ARCHIVE_TRUNCATED, NOT_AN_ARCHIVE, FORMAT_TOO_NEW
 */
export async function verify(
  source: ArchiveSource,
  options: ReadOptions & { onProgress?: (progress: { bytes: number; totalBytes: number }) => void } = {},
): Promise<ArchiveVerification> {
  await using archive = await open(source, options);
  const { manifest } = await verifyArchive(archive, options);
  return { archivePath: archive.path, members: manifest.integrity.members, bytes: manifest.integrity.bytes, manifest };
}

/**
 * The data of one regular member. Not verified; see `verify`.
 * @param options `maxBytes`: a larger member is refused with MEMBER_TOO_BIG. Default 64 MiB.
 * @throws ArchiveError MEMBER_MISSING, MEMBER_TOO_BIG, and those of `inspect`
 */
export async function readMember(
  source: ArchiveSource,
  name: string,
  options: ReadOptions & { maxBytes?: number } = {},
): Promise<Buffer> {
  const { maxBytes = 64 << 20, ...reading } = options;
  await using archive = await open(source, reading);
  const wanted = Buffer.from(name);
  for await (const member of walkMembers(archive)) {
    reading.signal?.throwIfAborted();
    if (member.entry.type === 'file' && member.entry.name.equals(wanted))
      return readMemberOf(archive, member, maxBytes);
  }
  throw new ArchiveError('MEMBER_MISSING', { archivePath: archive.path, member: printable(wanted) });
}

function open(source: ArchiveSource, { archiveName, ...options }: ReadOptions): Promise<OpenArchive> {
  return openArchive(source, { ...options, name: archiveName ?? nameOfSource(source) });
}
