import {
  ArchiveError,
  parseJson,
  printable,
  readVerifiedMember,
  textsIn,
  type VerifiedArchive,
} from '../../archive/index.js';
import { takeTurns } from '../../yield-to-loop.js';
import { ContainerError } from '../model/container-error.js';
import { members, type RecordedBindMount } from './documents.js';

/** Hundreds of thousands of paths. */
const MAX_DELETED_BYTES = 64 * 1024 * 1024;
const MAX_DELETED = 2_000_000;
/** A thousand times what a container has. */
const MAX_BIND_MOUNTS_BYTES = 2 * 1024 * 1024;

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
