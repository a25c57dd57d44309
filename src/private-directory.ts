import { randomBytes } from 'node:crypto';
import { closeSync, constants, fchmodSync, fstatSync, open } from 'node:fs';
import { join } from 'node:path';
import { native } from './native.js';
import { NO_LINKS, RENAME_NOREPLACE, RESOLVE_NO_XDEV } from './openat.js';
import { removeBelow, removeEmptied } from './removal.js';

/** Told the path before the directory is made, and when it is removed: for whoever removes it when we die. */
export interface PrivateDirectoryWatch {
  willMake?: (path: string) => void;
  removed?: (path: string) => void;
}

/**
 * A directory of our own, mode 0700 and of an unguessable name, held open from its making on. It is removed by that
 * descriptor, with all it holds: whatever others do to its name, they never see what is in it, and nothing of theirs is
 * removed.
 */
export class PrivateDirectory {
  readonly path: string;
  readonly fd: number;
  readonly #parentFd: number;
  readonly #name: Buffer;
  readonly #inner: number[] = [];
  readonly #watch: PrivateDirectoryWatch;

  private constructor(path: string, name: Buffer, fd: number, parentFd: number, watch: PrivateDirectoryWatch) {
    this.path = path;
    this.fd = fd;
    this.#name = name;
    this.#parentFd = parentFd;
    this.#watch = watch;
  }

  /**
   * @param parent Its descriptor becomes the directory's own, also when this throws; its path serves to name the
   * directory.
   * @throws errno errors; EPERM when what stands under the new name is not ours
   */
  static make(
    parent: { path: string; fd: number },
    watch: PrivateDirectoryWatch = {},
    prefix = '.stillframe-',
  ): PrivateDirectory {
    const name = Buffer.from(`${prefix}${randomBytes(8).toString('hex')}`);
    const path = join(parent.path, name.toString());
    watch.willMake?.(path);
    try {
      // Fails on an existing one, whoever made it.
      native().mkdirat(parent.fd, name, 0o700);
      return new PrivateDirectory(path, name, openOwn(parent.fd, name), parent.fd, watch);
    } catch (error) {
      closeSync(parent.fd);
      watch.removed?.(path);
      throw error;
    }
  }

  /**
   * A path to it that leads there whatever becomes of its name, for as long as this process holds it: for programs that
   * take paths.
   */
  get lastingPath(): string {
    return `/proc/${process.pid}/fd/${this.fd}`;
  }

  /** Makes a directory in it, mode 0700, that is held open as well. */
  makeInner(name: string): { path: string; fd: number } {
    const bytes = Buffer.from(name);
    native().mkdirat(this.fd, bytes, 0o700);
    const fd = openOwn(this.fd, bytes);
    this.#inner.push(fd);
    return { path: join(this.path, name), fd };
  }

  /**
   * Gives it its final name, in the same parent, where nothing is yet. It is nobody's to remove from then on.
   * @throws errno errors: EEXIST; ESTALE when somebody has put another directory in its place
   */
  keepAs(name: string): void {
    const bytes = Buffer.from(name);
    native().renameat2(this.#parentFd, this.#name, this.#parentFd, bytes, RENAME_NOREPLACE);
    const found = openOwn(this.#parentFd, bytes);
    try {
      const [ours, now] = [fstatSync(this.fd, { bigint: true }), fstatSync(found, { bigint: true })];
      if (ours.ino !== now.ino || ours.dev !== now.dev)
        throw Object.assign(new Error('ESTALE: another directory is in its place'), { code: 'ESTALE' });
    } finally {
      closeSync(found);
    }
    this.#close();
    this.#watch.removed?.(this.path);
  }

  /** @throws errno errors: then it is left, with what could not be removed */
  async remove(): Promise<void> {
    try {
      await removeBelow(this.fd);
      removeEmptied(this.#parentFd, this.#name, this.fd);
    } finally {
      this.#close();
    }
    this.#watch.removed?.(this.path);
  }

  /** Leaves it where it is, with all it holds, and under its hidden name. */
  leave(): void {
    this.#close();
    this.#watch.removed?.(this.path);
  }

  #close(): void {
    for (const fd of [...this.#inner.splice(0), this.fd, this.#parentFd]) closeSync(fd);
  }
}

/** Opens a parent as it is, for what may stand where others can rename it. The descriptor is the caller's to close. */
export function openPlain(path: string): Promise<{ path: string; fd: number }> {
  const flags = constants.O_RDONLY | constants.O_DIRECTORY;
  return new Promise((resolve, reject) => {
    open(path, flags, (error, fd) => (error === null ? resolve({ path, fd }) : reject(error)));
  });
}

/** What has just been made under this name, if it is that: ours, and nobody else's to enter. */
function openOwn(parentFd: number, name: Buffer): number {
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
  const fd = native().openat2(parentFd, name, flags, 0, NO_LINKS | RESOLVE_NO_XDEV);
  try {
    const { uid } = fstatSync(fd);
    if (uid !== process.geteuid?.())
      throw Object.assign(new Error(`EPERM: the directory just made belongs to uid ${uid}`), { code: 'EPERM' });
    fchmodSync(fd, 0o700); // whatever the umask made of it
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
