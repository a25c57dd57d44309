import { constants, lstatSync, readFileSync, readlinkSync, statSync, type BigIntStats } from 'node:fs';
import { bytesToJson, isExcluded, locateTree } from '../../archive/index.js';
import { ASKS_A_SERVER, mountLines } from '../../proc/mountinfo.js';
import { unescapeOctalBytes } from '../../proc/octal.js';
import { openForWriting, sharedWritableMappings } from '../window/files-in-use.js';
import type { FileTree } from '../window/target.js';
import { stampOf, type OutsideFile } from './outside-file.js';

/** Where files of the target may be, and what the archive holds of them. */
export interface Surroundings {
  places: readonly TreeLocation[];
  /** A path of the target's as one of this machine; undefined for what CRIU's images or the target's own trees hold. */
  onHost?: ((path: Buffer) => Buffer | undefined) | undefined;
  /** A file that is not the tasks' own: CRIU's log, which its code in a task has open. */
  except?: { dev: bigint; ino: bigint } | undefined;
  /** A log, which stays as it is: none of the files meant, as long as it is open for appending alone. */
  appended?: string | undefined;
}

/** Where a tree of the archive lies. */
export interface TreeLocation {
  root: Buffer;
  exclude: readonly (string | Buffer)[];
  /** The only file system that is archived of it. */
  dev: bigint | undefined;
}

/** A list of more bytes would not fit into a manifest that can be read again. */
const MAX_PATH_BYTES = 1 << 20;

/** File systems whose files are the kernel's own: what is written there is no data. */
const OF_THE_KERNEL = new Set([
  ...['proc', 'sysfs', 'cgroup', 'cgroup2', 'debugfs', 'tracefs', 'securityfs', 'configfs', 'bpf', 'mqueue'],
  ...['selinuxfs', 'efivarfs', 'fusectl', 'binfmt_misc', 'devpts'],
]);

/**
 * The files that the tasks have mapped shared and writable, or open for writing, and that no tree holds. A file whose
 * name is gone is in CRIU's images, and one that is in sight of the tasks alone is on a mount that CRIU dumps. No file
 * system is asked that might not answer: the tree may be frozen.
 */
export function findOutsideFiles(
  pids: readonly number[],
  { places, onHost, except, appended }: Surroundings,
): { files: OutsideFile[]; more: number } {
  const seen = new Set<string>();
  const files: OutsideFile[] = [];
  let more = 0;
  let pathBytes = 0;
  const keep = (path: Buffer, file: Omit<OutsideFile, 'path'>): void => {
    pathBytes += path.length;
    if (pathBytes > MAX_PATH_BYTES) more++;
    else files.push({ path: bytesToJson(path), ...file });
  };
  const types = new FileSystemTypes();
  for (const [use, link] of linksInUse(pids)) {
    const own = unlessGone(() => readlinkSync(link, { encoding: 'buffer' }));
    // A socket, a pipe: it is none of a file system that has paths.
    if (own === undefined || own[0] !== 0x2f) continue;
    const path = onHost === undefined ? own : onHost(own);
    if (appended !== undefined && own.equals(Buffer.from(appended)) && isAppended(link)) continue;
    if (path === undefined || seen.has(path.toString('latin1'))) continue;
    seen.add(path.toString('latin1'));
    const type = types.at(own, link.split('/', 3)[2] ?? '');
    if (OF_THE_KERNEL.has(type)) continue;
    if (ASKS_A_SERVER.test(type)) {
      if (!isArchived(path, undefined, places)) keep(path, { use });
      continue;
    }
    const stat = unlessGone(() => statSync(link, { bigint: true }));
    if (stat?.isFile() !== true || stat.nlink === 0n || !isSame(stat, path)) continue;
    if (stat.dev === except?.dev && stat.ino === except.ino) continue;
    if (!isArchived(path, stat.dev, places)) keep(path, { use, ...stampOf(stat) });
  }
  return { files, more };
}

/**
 * Asks the file systems of the trees, in threads that are left behind when the signal is aborted. A tree that cannot be
 * archived has no place.
 * @throws the signal's reason
 */
export async function placesOf(
  trees: readonly Pick<FileTree, 'path' | 'exclude' | 'oneFileSystem'>[],
  signal?: AbortSignal,
): Promise<TreeLocation[]> {
  const places: TreeLocation[] = [];
  for (const { path, exclude = [], oneFileSystem = false } of trees) {
    const found = await locateTree(path, signal).catch(() => undefined);
    signal?.throwIfAborted();
    if (found === undefined) continue;
    const { root, dev } = found;
    places.push({ root, exclude, dev: oneFileSystem ? dev : undefined });
  }
  return places;
}

/** The types of file systems by the mount tables of the tasks: a file system itself is not asked. */
class FileSystemTypes {
  readonly #tables = new Map<string, { mountPoint: Buffer; type: string }[]>();

  /** Of the innermost mount over a path, as the task sees it; '' where that is not known. */
  at(path: Buffer, pid: string): string {
    let table = this.#tables.get(pid);
    if (table === undefined) this.#tables.set(pid, (table = tableOf(pid)));
    return table.find(({ mountPoint }) => isWithin(path, mountPoint))?.type ?? '';
  }
}

/** The innermost mounts first. */
function tableOf(pid: string): { mountPoint: Buffer; type: string }[] {
  const text = unlessGone(() => readFileSync(`/proc/${pid}/mountinfo`, 'latin1')) ?? '';
  return mountLines(text)
    .map(({ mountPoint, fsType }) => ({
      mountPoint: Buffer.from(unescapeOctalBytes(mountPoint), 'latin1'),
      type: fsType,
    }))
    .reverse()
    .sort((a, b) => b.mountPoint.length - a.mountPoint.length);
}

/** Mapped ones first: a file that is open too is told of as mapped. */
function* linksInUse(pids: readonly number[]): Generator<[OutsideFile['use'], string]> {
  for (const link of sharedWritableMappings(pids)) yield ['mapped', link];
  for (const link of openForWriting(pids)) yield ['writing', link];
}

function isArchived(path: Buffer, fileDev: bigint | undefined, places: readonly TreeLocation[]): boolean {
  return places.some(
    ({ root, exclude, dev }) =>
      isWithin(path, root) && !isExcluded(exclude, path.subarray(root.length)) && (dev ?? fileDev) === fileDev,
  );
}

function isWithin(path: Buffer, root: Buffer): boolean {
  if (!path.subarray(0, root.length).equals(root)) return false;
  return path.length === root.length || path[root.length] === 0x2f || root.at(-1) === 0x2f;
}

function isSame({ dev, ino }: BigIntStats, path: Buffer): boolean {
  const found = unlessGone(() => lstatSync(path, { bigint: true }));
  return found?.dev === dev && found.ino === ino;
}

/** Source: proc_pid_fdinfo(5), `flags` in octal; a mapping has none. */
function isAppended(link: string): boolean {
  const info = unlessGone(() => readFileSync(link.replace('/fd/', '/fdinfo/'), 'latin1')) ?? '';
  return (Number.parseInt(/^flags:\s+([0-7]+)$/m.exec(info)?.[1] ?? '0', 8) & constants.O_APPEND) !== 0;
}

/** A task may end, and a path may lead nowhere: then there is nothing to tell of. */
function unlessGone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    return undefined;
  }
}
