import { printable, readVerifiedMember, ArchiveError, type VerifiedArchive } from '../../archive/index.js';
import { ContainerError } from '../model/container-error.js';
import { members, type RecordedBindMount } from './documents.js';

const MAX_DOCUMENT_BYTES = 64 * 1024 * 1024;

/** A path of the container, relative to its root, its bytes as latin1; '' is the root. */
export type ContainerPath = string;

/**
 * What had been deleted from the image, as deleted.files says.
 * @throws ContainerError NOT_A_CONTAINER_CHECKPOINT, ArchiveError UNSAFE_PATH
 */
export async function readDeletedFiles(verified: VerifiedArchive): Promise<ContainerPath[]> {
  const paths = await readList<string>(verified, members.deleted, (item) => typeof item === 'string');
  return paths.map((path) => containerPath(path, verified));
}

/**
 * The bind mounts, as bind.mounts says, and where each is.
 * @throws ContainerError NOT_A_CONTAINER_CHECKPOINT, ArchiveError UNSAFE_PATH
 */
export async function readBindMounts(
  verified: VerifiedArchive,
): Promise<(RecordedBindMount & { path: ContainerPath })[]> {
  const mounts = await readList<RecordedBindMount>(verified, members.bindMounts, isBindMountRecord);
  return mounts.map((mount) => ({ ...mount, path: containerPath(mount.destination, verified) }));
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

/** A JSON list that is a member, empty when there is none. */
async function readList<T>(verified: VerifiedArchive, name: string, isItem: (item: unknown) => boolean): Promise<T[]> {
  if (!verified.members.has(name)) return [];
  const wrong = (cause?: unknown): ContainerError =>
    new ContainerError('NOT_A_CONTAINER_CHECKPOINT', {
      archivePath: verified.archive.path,
      what: `its ${name} is not the list it should be`,
      cause,
    });
  let list: unknown;
  try {
    list = JSON.parse((await readVerifiedMember(verified, name, MAX_DOCUMENT_BYTES)).toString());
  } catch (cause) {
    throw wrong(cause);
  }
  if (!Array.isArray(list) || !list.every(isItem)) throw wrong();
  return list as T[];
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
