import {
  ArchiveError,
  inspectArchive,
  inspectMembers,
  nameOfSource,
  openArchive,
  openInOrder,
  printable,
  verifyArchive,
  type ArchiveErrorCode,
  type ArchiveSource,
  type Manifest,
  type MemberInTurn,
  type OpenArchive,
} from '../archive/index.js';
import type { OptionNames } from '../bad-option.js';
import { bad, requireSource } from './base/check-option.js';
import { ForeignReader, type ForeignCheckpoint } from './foreign-checkpoint.js';
import { InspectionReader, type ArchiveInspection, type OnMember } from './inspection.js';
import { refuseUnknown } from './option-names.js';
import { lookWhetherRestorable } from './restorable/look-whether-restorable.js';
import { partsOf, partsOfForeign } from './restorable/looked-at.js';
import type { Restorability } from './restorable/restorability.js';

export interface ArchiveVerification {
  archivePath: string;
  /** Regular members, every one of whose hashes is right, and the bytes they hold. */
  members: number;
  bytes: number;
  /** Undefined for an archive of another engine: no digest says what its bytes ought to be. */
  manifest: Manifest | undefined;
  /** See `ArchiveInspection`. */
  foreign: ForeignCheckpoint | undefined;
  /** Whether CRIU would restore it, as far as the archive itself says. */
  restorable: Restorability;
}

export interface ReadOptions {
  /** How errors and the result name the archive. Default: its path, or what it is. */
  archiveName?: string | undefined;
  signal?: AbortSignal;
  /** How much a compressed archive may unpack to, and a stream may bring, in bytes. Default: 1 TiB. */
  maxUnpackedBytes?: number | undefined;
}

export interface InspectOptions extends ReadOptions {
  /**
   * Takes the members one by one, in their order, so that no list of them is held. It is awaited; when it throws,
   * `inspect` rejects with that.
   */
  onMember?: OnMember | undefined;
}

export interface VerifyOptions extends ReadOptions {
  /**
   * Where a compressed archive is unpacked to, and a stream is kept: needs its whole size. Default: the system's
   * temporary directory.
   */
  tmpDir?: string;
  /** As in `ReadOptions`. Default: nine tenths of what is free in `tmpDir`. */
  maxUnpackedBytes?: number | undefined;
  onProgress?: (progress: { bytes: number; totalBytes: number }) => void;
}

const READ_OPTIONS: OptionNames<ReadOptions> = { archiveName: true, signal: true, maxUnpackedBytes: true };
const INSPECT_OPTIONS: OptionNames<InspectOptions> = { ...READ_OPTIONS, onMember: true };
const VERIFY_OPTIONS: OptionNames<VerifyOptions> = { ...READ_OPTIONS, tmpDir: true, onProgress: true };

/**
 * What an archive says it holds. Nothing is verified; see `verify`. A stream or a compressed archive is read to its
 * end, and stored nowhere.
 * @throws ArchiveError NOT_AN_ARCHIVE, ARCHIVE_UNREADABLE, ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED, ARCHIVE_TOO_BIG,
 * ARCHIVE_UNSUPPORTED; CheckpointError BAD_OPTION
 */
export async function inspect(source: ArchiveSource, options: InspectOptions = {}): Promise<ArchiveInspection> {
  requireSource('source', source);
  refuseUnknown(options, INSPECT_OPTIONS);
  const { onMember, ...reading } = options;
  await using archive = await openInOrder(source, named(source, reading));
  const reader = new InspectionReader(archive.path, onMember);
  const manifest = await inspectMembers(archive.members(), archive.path, {
    signal: options.signal,
    onMember: (member) => reader.look(member),
  });
  return reader.end({ compression: archive.compression, manifest });
}

/**
 * Checks every byte of an archive against its manifest, and then whether it would restore: that CRIU's images are
 * there and refer to what exists, and that every file that processes have open or mapped is in the archive as CRIU
 * recorded it. An archive of another engine has no digests: of it the second is looked at alone.
 * @throws ArchiveError ARCHIVE_DAMAGED with the member, ARCHIVE_TRUNCATED, NOT_AN_ARCHIVE, FORMAT_TOO_NEW;
 * CheckpointError WORK_DIR_UNUSABLE, BAD_OPTION. What the restore would fail on is no error: see `restorable`.
 */
export async function verify(source: ArchiveSource, options: VerifyOptions = {}): Promise<ArchiveVerification> {
  requireSource('source', source);
  refuseUnknown(options, VERIFY_OPTIONS);
  await using archive = await openArchive(source, named(source, options));
  const { path: archivePath } = archive;
  try {
    const verified = await verifyArchive(archive, options);
    const { members, bytes } = verified.manifest.integrity;
    const restorable = await lookWhetherRestorable(partsOf(verified), options);
    return { archivePath, members, bytes, manifest: verified.manifest, foreign: undefined, restorable };
  } catch (error) {
    if (!(error instanceof ArchiveError) || !MAY_BE_FOREIGN.includes(error.code)) throw error;
    const found = await lookWhetherForeign(archive, options.signal);
    if (found === undefined) throw error;
    const restorable = await lookWhetherRestorable(await partsOfForeign(archive, options.signal), options);
    return { archivePath, ...found, manifest: undefined, restorable };
  }
}

/** What verification says of another engine's archive. */
const MAY_BE_FOREIGN: readonly ArchiveErrorCode[] = ['NOT_AN_ARCHIVE', 'UNSAFE_PATH', 'UNSAFE_LINK'];

/** Undefined for one of ours, and for what no engine wrote. */
async function lookWhetherForeign(
  archive: OpenArchive,
  signal: AbortSignal | undefined,
): Promise<Pick<ArchiveVerification, 'members' | 'bytes' | 'foreign'> | undefined> {
  const reader = new ForeignReader();
  const found = { members: 0, bytes: 0 };
  let isOurs = false;
  const onMember = async (member: MemberInTurn): Promise<void> => {
    await reader.look(member);
    isOurs ||= member.entry.name.toString('latin1').startsWith('stillframe/');
    if (member.entry.type !== 'file') return;
    found.members++;
    found.bytes += member.entry.size;
  };
  try {
    await inspectArchive(archive, { signal, onMember });
  } catch (error) {
    if (error instanceof ArchiveError) return undefined;
    throw error;
  }
  const foreign = reader.found();
  return isOurs || foreign === undefined ? undefined : { ...found, foreign };
}

/**
 * The data of one regular member. Not verified; see `verify`. A stream is read as far as the end of the member, and
 * stored nowhere.
 * @param options `maxBytes`: a larger member is refused with MEMBER_TOO_BIG. Default 64 MiB.
 * @throws ArchiveError MEMBER_MISSING, MEMBER_TOO_BIG, and those of `inspect`
 */
export async function readMember(
  source: ArchiveSource,
  name: string,
  options: ReadOptions & { maxBytes?: number } = {},
): Promise<Buffer> {
  requireSource('source', source);
  if (typeof name !== 'string' || name === '') bad('name', name, "a member's name");
  refuseUnknown(options, { ...READ_OPTIONS, maxBytes: true } as const);
  const { maxBytes = 64 << 20, ...reading } = options;
  await using archive = await openInOrder(source, named(source, reading));
  const wanted = Buffer.from(name);
  for await (const { entry, read } of archive.members()) {
    reading.signal?.throwIfAborted();
    if (entry.type === 'file' && entry.name.equals(wanted)) return await read(maxBytes);
  }
  throw new ArchiveError('MEMBER_MISSING', { archivePath: archive.path, member: printable(wanted) });
}

function named<T extends ReadOptions>(source: ArchiveSource, { archiveName, ...options }: T) {
  return { ...options, name: archiveName ?? nameOfSource(source) };
}
