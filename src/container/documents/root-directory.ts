/**
 * A container's root file system from outside, each call below one descriptor. A path is resolved as the container
 * itself would do it: links of its image, such as /var/run to /run, end in its root, whether they are relative or
 * absolute.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import { IN_ROOT, O_PATH, openDirectoryAt, RESOLVE_NO_XDEV } from '../../openat.js';

/** A mount point below the root is another file system of the host's, none of the container's. */
const RESOLVE = IN_ROOT | RESOLVE_NO_XDEV;

const MODE_OF_IMPLIED = 0o755;

export class RootDirectory {
  readonly fd: number;
  /** The directory asked for last: an archive lists a directory's members together. */
  #last: { path: string; fd: number } | undefined;

  /** @throws errno errors */
  constructor(path: string) {
    this.fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  }

  [Symbol.dispose](): void {
    this.#forget();
    closeSync(this.fd);
  }

  /**
   * A directory of the container, held open until the next call; undefined when it does not exist or is none.
   * @param path In latin1, relative to the root; '' is the root.
   * @throws errno errors: EXDEV at a mount point
   */
  directory(path: string): number | undefined {
    if (path === '') return this.fd;
    if (this.#last?.path === path) return this.#last.fd;
    try {
      return this.#remember(path, openDirectoryAt(this.fd, bytes(path), RESOLVE));
    } catch (error) {
      if (['ENOENT', 'ENOTDIR', 'ELOOP'].includes(errnoOf(error) ?? '')) return undefined;
      throw error;
    }
  }

  /**
   * The same, made where it is missing, with all above it.
   * @throws errno errors: EEXIST when a file or a link to nowhere is in the way
   */
  makeDirectory(path: string): number {
    const existing = this.directory(path);
    if (existing !== undefined) return existing;
    const { parent, name } = split(path);
    native().mkdirat(this.makeDirectory(parent), bytes(name), MODE_OF_IMPLIED);
    return this.#remember(path, openDirectoryAt(this.fd, bytes(path), RESOLVE));
  }

  /** Whether a path of the container leads to anything, links followed. */
  has(path: string): boolean {
    try {
      closeSync(native().openat2(this.fd, bytes(path), O_PATH, 0, RESOLVE));
      return true;
    } catch (error) {
      // What cannot be entered is there.
      return !['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '');
    }
  }

  /** After what was held open may have been moved or removed. */
  #forget(): void {
    if (this.#last !== undefined) closeSync(this.#last.fd);
    this.#last = undefined;
  }

  #remember(path: string, fd: number): number {
    this.#forget();
    this.#last = { path, fd };
    return fd;
  }
}

/** The directory part and the last component of a path in latin1. */
export function split(path: string): { parent: string; name: string } {
  const slash = path.lastIndexOf('/');
  return { parent: slash < 0 ? '' : path.slice(0, slash), name: path.slice(slash + 1) };
}

export function bytes(path: string): Buffer {
  return Buffer.from(path, 'latin1');
}
