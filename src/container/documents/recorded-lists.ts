import { parseJson, printable, readVerifiedMember, ArchiveError, type VerifiedArchive } from '../../archive/index.js';
import { takeTurns } from '../../yield-to-loop.js';
import { ContainerError } from '../model/container-error.js';
import { members, type RecordedBindMount } from './documents.js';

/** Hundreds of thousands of paths. */
const MAX_DELETED_BYTES = 64 * 1024 * 1024;
const MAX_DELETED = 2_000_000;
/** A thousand times what a container has. */
const MAX_BIND_MOUNTS_BYTES = 2 * 1024 * 1024;

const [SPACES, COMMA, QUOTE, BACKSLASH] = [new Set([0x20, 0x09, 0x0a, 0x0d]), 0x2c, 0x22, 0x5c];
const [BRACKET, BRACKET_END] = [0x5b, 0x5d];

/** A path of the container, relative to its root, its bytes as latin1; '' is the root. */
export type ContainerPath = string;

/**
 * What had been deleted from the image, as deleted.files says; each once, however often it is named.
 * @throws ContainerError NOT_A_CONTAINER_CHECKPOINT, ArchiveError UNSAFE_PATH, MEMBER_TOO_BIG
 */
export async function readDeletedFiles(verified: VerifiedArchive): Promise<Set<ContainerPath>> {
  const paths = new Set<ContainerPath>();
  if (!verified.members.has(members.deleted)) return paths;
  const bytes = await readVerifiedMember(verified, members.deleted, MAX_DELETED_BYTES);
  let turn = performance.now();
  let last: string | undefined;
  let count = 0;
  try {
    for (const text of textsIn(bytes)) {
      if (++count > MAX_DELETED) throw new Error(`more than ${MAX_DELETED} paths`);
      if (text !== last) paths.add(containerPath((last = text), verified));
      if (count % 1000 === 0) turn = await takeTurns(turn);
    }
  } catch (cause) {
    throw cause instanceof ArchiveError ? cause : wrongList(verified, members.deleted, cause);
  }
  return paths;
}

/**
 * The bind mounts, as bind.mounts says, and where each is.
 * @throws ContainerError NOT_A_CONTAINER_CHECKPOINT, ArchiveError UNSAFE_PATH
 */
export async function readBindMounts(
  verified: VerifiedArchive,
): Promise<(RecordedBindMount & { path: ContainerPath })[]> {
  if (!verified.members.has(members.bindMounts)) return [];
  let list: unknown;
  try {
    list = parseJson(await readVerifiedMember(verified, members.bindMounts, MAX_BIND_MOUNTS_BYTES));
  } catch (cause) {
    throw cause instanceof ArchiveError ? cause : wrongList(verified, members.bindMounts, cause);
  }
  if (!Array.isArray(list) || !list.every(isBindMountRecord)) throw wrongList(verified, members.bindMounts);
  return (list as RecordedBindMount[]).map((mount) => ({ ...mount, path: containerPath(mount.destination, verified) }));
}

function wrongList({ archive }: VerifiedArchive, name: string, cause?: unknown): ContainerError {
  return new ContainerError('NOT_A_CONTAINER_CHECKPOINT', {
    archivePath: archive.path,
    what: `its ${name} is not the list it should be`,
    cause,
  });
}

/**
 * The texts of a JSON list of nothing else, one by one: as one value, millions of them would cost many times the
 * document.
 * @throws Error, SyntaxError
 */
function* textsIn(bytes: Buffer): Generator<string> {
  const skip = (at: number): number => {
    while (SPACES.has(bytes[at] as number)) at++;
    return at;
  };
  let at = skip(0);
  if (bytes[at] !== BRACKET) throw new Error('it is no list');
  at = skip(at + 1);
  if (bytes[at] === BRACKET_END) at++;
  else {
    for (let separator: number | undefined = COMMA; separator === COMMA; separator = bytes[at++]) {
      at = skip(at);
      const start = at;
      if (bytes[at] !== QUOTE) throw new Error('it holds more than texts');
      do if (bytes[at++] === BACKSLASH) at++;
      while (at < bytes.length && bytes[at] !== QUOTE);
      yield JSON.parse(bytes.toString('utf8', start, ++at)) as string;
      at = skip(at);
    }
    if (bytes[at - 1] !== BRACKET_END) throw new Error('it does not end as a list does');
  }
  if (skip(at) < bytes.length) throw new Error('something follows it');
}

function containerPath(path: string, verified: VerifiedArchive): ContainerPath {
  const parts = Buffer.from(path)
    .toString('latin1')
    .split('/')
    .filter((part) => part !== '' && part !== '.');
  if (parts.includes('..') || path.includes('\0'))
    throw new ArchiveError('UNSAFE_PATH', {
      archivePath: verified.archive.path,
      member: printable(Buffer.from(path)),
      what: "it has '..' or a zero byte in it",
    });
  return parts.join('/');
}

function isBindMountRecord(item: unknown): boolean {
  const record = item as Partial<RecordedBindMount> | null;
  return (
    typeof record?.destination === 'string' &&
    (record.file_type === 'file' || record.file_type === 'directory') &&
    typeof record.source === 'string' &&
    Number.isSafeInteger(record.permissions) &&
    ((record.permissions as number) & ~0o777) === 0
  );
}
