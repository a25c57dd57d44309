import { open, readlink, stat, type FileHandle } from 'node:fs/promises';
import { constants } from 'node:fs';
import { CriuError } from '../errors/criu-error.js';
import { isShortage } from '../errors/resource-shortage.js';

/** Where the log is found. */
async function pathOf(fd: number): Promise<string> {
  const link = `/proc/self/fd/${fd}`;
  if (!(await stat(link)).isDirectory())
    throw Object.assign(new Error('ENOTDIR: not a directory'), { code: 'ENOTDIR' });
  return await readlink(link);
}

/**
 * A directory that CRIU opens through /proc/<our pid>/fd/<fd>: the descriptor has to stay open until its answer. The
 * path serves to find the log.
 */
export class SharedDirectory implements AsyncDisposable {
  readonly fd: number;
  readonly path: string;
  readonly #handle: FileHandle | undefined;

  private constructor(fd: number, path: string, handle?: FileHandle) {
    this.fd = fd;
    this.path = path;
    this.#handle = handle;
  }

  /**
   * A path is opened here and closed by the dispose; a descriptor stays the caller's.
   * @throws CriuError BAD_OPTION, or CRIU_IO when no descriptor is left; with the system's error as cause
   */
  static async open(option: 'imagesDir' | 'workDir', directory: string | number): Promise<SharedDirectory> {
    try {
      if (typeof directory === 'number') return new SharedDirectory(directory, await pathOf(directory));
      const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
      return new SharedDirectory(handle.fd, directory, handle);
    } catch (cause) {
      throw new CriuError(isShortage(cause) ? 'CRIU_IO' : 'BAD_OPTION', {
        option,
        reason: `cannot open the directory ${directory}`,
        cause,
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle?.close();
  }
}
