/**
 * Members in the order in which they come. A plain file is read by its headers alone; what can only be read from front
 * to back (a pipe, a compressed file) is, without being stored anywhere.
 */
import { begin, type Compression } from './begin.js';
import { membersOfChunks, type MemberInTurn } from './chunked-members.js';
import { opened, readMember, walkMembers, type OpenArchive } from './reader.js';
import { nameOfSource, type ArchiveSource } from './source.js';
import { unpack } from './unpack.js';

export interface ArchiveInOrder extends AsyncDisposable {
  /** As the caller named it. */
  readonly path: string;
  readonly compression: Compression;
  /**
   * Once.
   * @throws ArchiveError NOT_AN_ARCHIVE, ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED, ARCHIVE_UNSUPPORTED, ARCHIVE_TOO_BIG
   */
  members(): AsyncGenerator<MemberInTurn, void, void>;
}

export interface OpenInOrderOptions {
  /** How errors name it. Default: its path, or what it is. */
  name?: string | undefined;
  /** How much a compressed archive may unpack to, and a stream may bring, in bytes. Default: 1 TiB. */
  maxUnpackedBytes?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Nothing is stored, so no disk limits it: a few minutes of decompressing zeros. */
const MOST_BYTES = 2 ** 40;

/** @throws ArchiveError ARCHIVE_UNREADABLE, ARCHIVE_TRUNCATED; the signal's reason */
export async function openInOrder(source: ArchiveSource, options: OpenInOrderOptions = {}): Promise<ArchiveInOrder> {
  const { name: path = nameOfSource(source), maxUnpackedBytes: mostBytes = MOST_BYTES, signal } = options;
  const begun = await begin(source, path, signal);
  const close = begun.close;
  if (begun.kind === 'in-order') {
    const { compression, chunks } = begun;
    // The zstd of Node.js 22 does not notice that its stream is cut short.
    const reading = { archivePath: path, mostBytes, mayLackEnd: compression !== 'zstd' };
    const members = (): ReturnType<ArchiveInOrder['members']> =>
      membersOfChunks(unpack({ path, mostBytes, signal }, chunks, compression), reading);
    return { path, compression, members, [Symbol.asyncDispose]: close };
  }
  const archive = opened(path, begun.handle, begun.bytes, 'none', close);
  return { path, compression: 'none', members: () => membersOfFile(archive), [Symbol.asyncDispose]: close };
}

/** Those of an archive that can be read at any offset. */
export async function* membersOfFile(archive: OpenArchive): AsyncGenerator<MemberInTurn, void, void> {
  for await (const member of walkMembers(archive)) {
    const { entry, storedBytes } = member;
    yield { entry, storedBytes, read: (maxBytes) => readMember(archive, member, maxBytes) };
  }
}
