import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { pathOfFd } from '../../openat.js';
import { removeBelow } from '../../removal.js';
import { ContainerError } from '../model/container-error.js';

/** The root file system of the new container's bundle, as it is before anything is put into it. */
export class BundleRoot {
  /** Which directory it is. */
  readonly id: { dev: bigint; ino: bigint };
  readonly #path: string;

  /** @throws ContainerError ROOTFS_MISSING */
  constructor(bundle: string, rootfs: string) {
    this.#path = rootfs;
    try {
      const fd = open(rootfs);
      this.id = fstatSync(fd, { bigint: true });
      closeSync(fd);
    } catch (cause) {
      throw new ContainerError('ROOTFS_MISSING', { bundle, rootfs, cause });
    }
  }

  /**
   * An archive of a whole root file system does not say what the container had deleted: over its image, that would come
   * back.
   * @throws ContainerError ROOTFS_NOT_EMPTY
   */
  async requireEmpty(archivePath: string): Promise<void> {
    const isEmpty = await this.#within(async (fd) => {
      const dir = await opendir(pathOfFd(fd), { encoding: 'latin1' });
      return (await dir.read().finally(() => dir.close())) === null;
    });
    if (isEmpty !== true) throw new ContainerError('ROOTFS_NOT_EMPTY', { rootfs: this.#path, archivePath });
  }

  /** Takes all out again that has been put into it. */
  async clear(): Promise<void> {
    await this.#within((fd) => removeBelow(fd));
  }

  /** Undefined where another directory has its name by now, which is none of ours. */
  async #within<T>(act: (fd: number) => Promise<T>): Promise<T | undefined> {
    const fd = open(this.#path);
    try {
      const { dev, ino } = fstatSync(fd, { bigint: true });
      return dev === this.id.dev && ino === this.id.ino ? await act(fd) : undefined;
    } finally {
      closeSync(fd);
    }
  }
}

function open(path: string): number {
  return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
}
