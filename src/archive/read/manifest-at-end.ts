/** What an archive says it is, from its end alone: for a look at many of them. */
import { createHash } from 'node:crypto';
import { ArchiveError } from '../format/archive-error.js';
import {
  checksumLine,
  MANIFEST_JSON,
  MANIFEST_SHA256,
  MAX_MANIFEST_BYTES,
  parseManifest,
  type Manifest,
} from '../format/manifest.js';
import { BLOCK_BYTES } from '../format/tar-encode.js';
import { isZero } from '../format/tar-fields.js';
import { MAX_AFTER_END_BYTES } from './chunked-members.js';
import { truncated } from './content.js';
import { openInOrder } from './in-order.js';
import { inspectMembers } from './inspect.js';
import { begin, type Compression } from './begin.js';
import { opened, readMember, walkMembers, type Member, type OpenArchive } from './reader.js';
import { nameOfSource, type ArchiveSource } from './source.js';

export interface ManifestOptions {
  /** How errors name it. Default: its path, or what it is. */
  name?: string | undefined;
  signal?: AbortSignal | undefined;
}

export interface FoundManifest {
  manifest: Manifest;
  compression: Compression;
}

/** The end is read in pieces of this size first; most manifests are in the last one. */
const FIRST_BYTES = 64 * 1024;
/** The manifest, what may follow the end, and the blocks around them. */
const MOST_BYTES = MAX_MANIFEST_BYTES + MAX_AFTER_END_BYTES + 64 * 1024;

/**
 * The manifest of an archive that is whole as far as a look at its end tells: the manifest is there, has its own
 * digest, and the tar ends after it. The members are not verified. A compressed archive is read to its end, and stored
 * nowhere.
 * @throws ArchiveError NOT_AN_ARCHIVE (no tar, or a whole one of others), ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED,
 * ARCHIVE_UNREADABLE, ARCHIVE_UNSUPPORTED, FORMAT_TOO_NEW; the signal's reason
 */
export async function readManifest(source: ArchiveSource, options: ManifestOptions = {}): Promise<FoundManifest> {
  const { name: path = nameOfSource(source), signal } = options;
  const begun = await begin(source, path, signal);
  try {
    if (begun.kind === 'file') {
      const archive = opened(path, begun.handle, begun.bytes, 'none');
      return { manifest: (await manifestAtEnd(archive)).manifest, compression: 'none' };
    }
  } finally {
    await begun.close();
  }
  await using archive = await openInOrder(source, { name: path, signal });
  const manifest = await inspectMembers(archive.members(), path, { signal });
  if (manifest === undefined) throw notOurs(path);
  return { manifest, compression: archive.compression };
}

/** A manifest that is read before its turn, the archive's last but one. */
export interface ManifestAhead {
  manifest: Manifest;
  /** As they stand there: for the comparison with those that a verification finds. */
  bytes: Buffer;
}

/**
 * The manifest as a hint for who is about to verify the archive: nothing of it is proven before that
 * (`VerifyOptions.ahead`). Undefined where there is none, of which the verification says why.
 */
export async function readManifestAhead(archive: OpenArchive): Promise<ManifestAhead | undefined> {
  try {
    return await manifestAtEnd(archive);
  } catch (error) {
    if (error instanceof ArchiveError) return undefined;
    throw error;
  }
}

async function manifestAtEnd(archive: OpenArchive): Promise<ManifestAhead> {
  const { path, bytes } = archive;
  const first = await readAt(archive, 0, BLOCK_BYTES);
  if (!isHeader(first)) throw new ArchiveError('NOT_AN_ARCHIVE', { archivePath: path, what: 'no tar archive' });
  const end = Math.floor(bytes / BLOCK_BYTES) * BLOCK_BYTES;
  const zeros = await readAt(archive, Math.max(0, end - 2 * BLOCK_BYTES), 2 * BLOCK_BYTES);
  if (end !== bytes || !isZero(zeros)) throw truncated(path, bytes);
  const start = await startOfManifest(archive);
  if (start === undefined) throw notOurs(path);
  const json = await ownMember(archive, start.json, MANIFEST_JSON, MAX_MANIFEST_BYTES);
  const sum = await ownMember(archive, start.sum, MANIFEST_SHA256, BLOCK_BYTES);
  if (!sum.equals(checksumLine(createHash('sha256').update(json).digest(), Buffer.from(MANIFEST_JSON))))
    throw damaged(path, `it does not have the SHA-256 in ${MANIFEST_SHA256}`);
  return { manifest: parseManifest(json, path), bytes: json };
}

/** The last two members, looked for from the end: no manifest has the zero bytes of a header in it. */
async function startOfManifest(
  archive: OpenArchive,
): Promise<{ json: Member | undefined; sum: Member | undefined } | undefined> {
  const name = Buffer.from(`${MANIFEST_JSON}\0`);
  for (let length = FIRST_BYTES; ; length = Math.min(length * 8, MOST_BYTES)) {
    const from = Math.max(0, archive.bytes - length);
    const tail = await readAt(archive, from, archive.bytes - from);
    for (let at = tail.length - BLOCK_BYTES; at >= 0; at -= BLOCK_BYTES) {
      const block = tail.subarray(at, at + BLOCK_BYTES);
      if (!block.subarray(0, name.length).equals(name) || !isHeader(block)) continue;
      const members: Member[] = [];
      for await (const member of walkMembers(archive, { start: from + at, end: archive.bytes })) members.push(member);
      return { json: members[0], sum: members[1] };
    }
    if (from === 0 || length === MOST_BYTES) return undefined;
  }
}

async function ownMember(
  archive: OpenArchive,
  member: Member | undefined,
  name: string,
  maxBytes: number,
): Promise<Buffer> {
  if (member?.entry.type !== 'file' || member.entry.name.toString('latin1') !== name || member.entry.size > maxBytes)
    throw damaged(archive.path, 'it is not where it must be', name);
  return readMember(archive, member, maxBytes);
}

async function readAt({ handle, path }: OpenArchive, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  try {
    const { bytesRead } = await handle.read(buffer, 0, length, position);
    return buffer.subarray(0, bytesRead);
  } catch (cause) {
    throw new ArchiveError('ARCHIVE_UNREADABLE', { archivePath: path, offset: position, cause });
  }
}

/** Source: POSIX.1-2017, pax, "ustar Interchange Format": the magic is at byte 257. */
function isHeader(block: Buffer): boolean {
  return block.length === BLOCK_BYTES && block.toString('latin1', 257, 262) === 'ustar';
}

function damaged(archivePath: string, what: string, member = MANIFEST_JSON): ArchiveError {
  return new ArchiveError('ARCHIVE_DAMAGED', { archivePath, member, what });
}

function notOurs(archivePath: string): ArchiveError {
  return new ArchiveError('NOT_AN_ARCHIVE', { archivePath, what: `a tar without ${MANIFEST_JSON}` });
}
