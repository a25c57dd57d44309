import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { errnoOf } from '../../errors.js';

const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

/**
 * A file without a name, mode 0600, in this directory: whatever dies, the kernel takes it away. Undefined where the
 * kernel (EISDIR: it does not know the flag) or the file system has no such files. Source: open(2), "O_TMPFILE".
 * @throws errno errors of open(2)
 */
export async function openNameless(directory: string): Promise<FileHandle | undefined> {
  try {
    return await open(directory, O_TMPFILE | constants.O_RDWR, 0o600);
  } catch (error) {
    // ENOTSUP is libuv's name for EOPNOTSUPP.
    if (['EISDIR', 'EOPNOTSUPP', 'ENOTSUP', 'EINVAL'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}
