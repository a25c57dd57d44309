import { constants } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { native } from './native.js';
import { whileWanted } from './while-wanted.js';

/** Which file a path leads to, in stat(2)'s numbers. */
export interface FoundFile {
  dev: bigint;
  ino: bigint;
  isFile: boolean;
  /** Where `stamps` were asked for. */
  size: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
}

const { ENOENT, ENOTDIR, ENAMETOOLONG, ELOOP, ESRCH, ESTALE, EACCES, ENOTCONN } = osConstants.errno;
/**
 * What is gone, or cannot be; and what a file system in user space denies to everybody but its owner, or cannot say any more: no tree
 * holds that.
 */
const NOT_THERE: readonly number[] = [ENOENT, ENOTDIR, ENAMETOOLONG, ELOOP, ESRCH, ESTALE, EACCES, ENOTCONN];
const WORDS = 7;
type Words = [bigint, bigint, bigint, bigint, bigint, bigint, bigint];

/**
 * Looks the paths up in a thread, which is left behind when the signal is aborted while a file's server does not
 * answer; undefined for what is not there. Asks a server (FUSE, NFS) as little as possible: statx(2),
 * AT_STATX_DONT_SYNC.
 * @param follow A link at the end of a path too.
 * @param stamps Size and times too, as stat(2) has them: then a server is asked for them.
 * @throws the signal's reason; errno errors
 */
export async function lookUp(
  paths: readonly (string | Buffer)[],
  { follow, stamps = false, signal }: { follow: boolean; stamps?: boolean; signal?: AbortSignal | undefined },
): Promise<(FoundFile | undefined)[]> {
  if (paths.length === 0) return [];
  const zero = Buffer.alloc(1);
  const list = Buffer.concat(paths.flatMap((path) => [Buffer.from(path as string), zero]));
  const looking = native().lookUp(list, follow, stamps);
  const bytes = await whileWanted(looking, signal);
  const words = new BigUint64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  return paths.map((path, i) => {
    const [dev, ino, mode, errno, size, mtime, ctime] = words.subarray(i * WORDS) as unknown as Words;
    if (NOT_THERE.includes(Number(errno))) return undefined;
    if (errno !== 0n) throw errnoError(Number(errno), path);
    return {
      dev,
      ino,
      isFile: (Number(mode) & constants.S_IFMT) === constants.S_IFREG,
      size,
      mtimeNs: BigInt.asIntN(64, mtime),
      ctimeNs: BigInt.asIntN(64, ctime),
    };
  });
}

function errnoError(errno: number, path: string | Buffer): NodeJS.ErrnoException {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`${code}: statx '${String(path)}'`), { code, errno: -errno, syscall: 'statx' });
}
