/**
 * The last members of an archive: what proves the others, and says what the archive is.
 *
 *   stillframe/members.sha256    `<hex>  <name>` for every regular member before it, as `sha256sum` prints it
 *   stillframe/manifest.json     what was dumped, the trees, and the hashes of member data and of headers
 *   stillframe/manifest.sha256   `<hex>  stillframe/manifest.json`
 *
 * No hash covers the headers of these three. Each must be one single block, which its own checksum covers: with
 * whole seconds, since nanoseconds would need a pax header, which has no checksum.
 */
import { ArchiveError } from './archive-error.js';
import { parseJson } from './bounded-json.js';
import type { JsonBytes } from './byte-text.js';

export const MEMBERS_SHA256 = 'stillframe/members.sha256';
export const MANIFEST_JSON = 'stillframe/manifest.json';
export const MANIFEST_SHA256 = 'stillframe/manifest.sha256';

/** The version written here, and the newest that can be read. */
export const FORMAT_VERSION = 2;

/** A longer manifest is neither written nor read. */
export const MAX_MANIFEST_BYTES = 16 * 1024 * 1024;

export interface Manifest {
  format: 'stillframe';
  version: number;
  integrity: Integrity;
  trees: TreeRecord[];
  /** What was dumped, by which CRIU and kernel. This room only carries it. */
  subject: Record<string, unknown>;
}

export interface Integrity {
  /** How many regular members `members.sha256` lists. */
  members: number;
  /** The sum of their stored bytes. */
  bytes: number;
  /** SHA-256 of `members.sha256`, hex. */
  membersSha256: string;
  /**
   * Of every byte before the header of `members.sha256` that is not member data: SHA-256 of the SHA-256s, 32 bytes
   * each, of each member's headers with its padding, in order, hex.
   */
  headersSha256: string;
}

export interface TreeRecord {
  /** The name in the archive: one member, or the prefix of many. */
  name: JsonBytes;
  /** The path that was archived. */
  source: JsonBytes;
  /** `members`: the tree's files are members. `nested`: the tree is a tar, which is one member. */
  layout: TreeLayout;
  /** Files, directories and all else in the tree, its root included. */
  entries: number;
  /** The sum of the regular files' apparent sizes. */
  bytes: number;
  /** Sockets, which no archive can hold: names relative to the tree's root. */
  skippedSockets: JsonBytes[];
  /** The patterns by which files were left out (src/archive/scan/excludes.ts); absent where none were given. */
  exclude?: JsonBytes[];
}

export type TreeLayout = 'members' | 'nested';

/**
 * What a line has beside its name, of which each byte may be escaped: a backslash, 64 digits, two spaces, a line end.
 * `SF_LINE_MORE` in native/archive/lines.h is the same.
 */
export const LINE_MORE_BYTES = 68;

/**
 * One line as `sha256sum` prints it: a name with a backslash or a line end is escaped, and the line then
 * begins with a backslash.
 * Source: coreutils 9.1, src/digest.c, print_filename.
 */
export function checksumLine(sha256: Uint8Array, name: Uint8Array): Buffer {
  const hex = Buffer.from(sha256.buffer, sha256.byteOffset, sha256.byteLength).toString('hex');
  const text = Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString('latin1');
  const escaped = text.replace(/[\\\n\r]/g, (char) => (char === '\\' ? '\\\\' : char === '\n' ? '\\n' : '\\r'));
  return Buffer.from(`${escaped === text ? '' : '\\'}${hex}  ${escaped}\n`, 'latin1');
}

/** The manifest as the archive holds it: JSON with line ends, for people who look inside with other tools. */
export function encodeManifest(manifest: Manifest): Buffer {
  return Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`);
}

/**
 * The manifest from its bytes, every field that this room relies on checked.
 * @throws ArchiveError ARCHIVE_DAMAGED, FORMAT_TOO_NEW
 */
export function parseManifest(bytes: Buffer, archivePath: string): Manifest {
  const wrong = (what: string, cause?: unknown): ArchiveError =>
    new ArchiveError('ARCHIVE_DAMAGED', { archivePath, member: MANIFEST_JSON, what, cause });
  let value: unknown;
  try {
    value = parseJson(bytes);
  } catch (cause) {
    throw wrong('not JSON that is read', cause);
  }
  if (!isRecord(value) || value['format'] !== 'stillframe' || !isCount(value['version']))
    throw wrong('not a stillframe manifest');
  if (value['version'] > FORMAT_VERSION)
    throw new ArchiveError('FORMAT_TOO_NEW', { archivePath, version: value['version'] });
  if (value['version'] < FORMAT_VERSION)
    throw new ArchiveError('ARCHIVE_UNSUPPORTED', {
      archivePath,
      what: `format version ${value['version']}, which no released stillframe has written`,
    });
  const { integrity, trees, subject } = value;
  if (!isIntegrity(integrity)) throw wrong('no integrity record');
  if (!Array.isArray(trees) || !trees.every(isTree)) throw wrong('invalid tree record');
  if (!isRecord(subject)) throw wrong('no subject');
  return { format: 'stillframe', version: value['version'], integrity, trees, subject };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isHash(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
}

function isJsonBytes(value: unknown): value is JsonBytes {
  return typeof value === 'string' || (isRecord(value) && typeof value['base64'] === 'string');
}

function isIntegrity(value: unknown): value is Integrity {
  return (
    isRecord(value) &&
    isCount(value['members']) &&
    isCount(value['bytes']) &&
    isHash(value['membersSha256']) &&
    isHash(value['headersSha256'])
  );
}

function isTree(value: unknown): value is TreeRecord {
  return (
    isRecord(value) &&
    isJsonBytes(value['name']) &&
    isJsonBytes(value['source']) &&
    (value['layout'] === 'members' || value['layout'] === 'nested') &&
    isCount(value['entries']) &&
    isCount(value['bytes']) &&
    Array.isArray(value['skippedSockets']) &&
    value['skippedSockets'].every(isJsonBytes) &&
    (value['exclude'] === undefined || (Array.isArray(value['exclude']) && value['exclude'].every(isJsonBytes)))
  );
}
