import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { link, open, rename, unlink, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import { ArchiveError } from '../format/archive-error.js';
import { openNameless } from './unnamed-file.js';

const AT_FDCWD = -100;
const AT_SYMLINK_FOLLOW = 0x400;

/** Told of a hidden name before it is made, and when it is gone: for whoever removes it when we die. */
export interface HiddenNames {
  willMake?: (path: string) => void;
  removed?: (path: string) => void;
}

/**
 * A file without a name, in the directory where it may get one: whatever dies, the kernel takes it away. Only
 * where the file system has no nameless files, and for the instant of replacing another, it is a hidden one,
 * `.stillframe-<random>.NAME`.
 */
export class StagingFile {
  readonly handle: FileHandle;
  readonly #watch: HiddenNames;
  #hidden: string | undefined;

  private constructor(handle: FileHandle, hidden: string | undefined, watch: HiddenNames) {
    this.handle = handle;
    this.#watch = watch;
    this.#hidden = hidden;
  }

  /** @throws errno errors of open(2) */
  static async create(directory: string, label: string, watch: HiddenNames = {}): Promise<StagingFile> {
    const nameless = await openNameless(directory);
    if (nameless !== undefined) return new StagingFile(nameless, undefined, watch);
    const hidden = hiddenName(directory, label);
    watch.willMake?.(hidden);
    try {
      return new StagingFile(
        await open(hidden, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600),
        hidden,
        watch,
      );
    } catch (error) {
      watch.removed?.(hidden);
      throw error;
    }
  }

  get fd(): number {
    return this.handle.fd;
  }

  /**
   * Makes the contents durable and gives them their name, in one step: a reader sees the whole file or none.
   * @throws ArchiveError OUTPUT_EXISTS; errno errors
   */
  async publish(path: string, options: { overwrite: boolean }): Promise<void> {
    await this.handle.sync();
    if (options.overwrite) {
      const named = this.#hidden ?? hiddenName(dirname(path), basename(path));
      if (this.#hidden === undefined) {
        this.#watch.willMake?.(named);
        this.#hidden = named;
        await this.#link(named);
      }
      await rename(named, path);
      this.#forget();
    } else {
      await this.#link(path);
      if (this.#hidden !== undefined) await unlink(this.#hidden);
      this.#forget();
    }
    await syncDirectory(dirname(path));
  }

  /** Closes the file; what has no name, or only a hidden one, is gone then. */
  async discard(): Promise<void> {
    await this.handle.close();
    if (this.#hidden === undefined) return;
    await unlink(this.#hidden).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
    this.#forget();
  }

  #forget(): void {
    if (this.#hidden !== undefined) this.#watch.removed?.(this.#hidden);
    this.#hidden = undefined;
  }

  async #link(path: string): Promise<void> {
    try {
      if (this.#hidden !== undefined && this.#hidden !== path) await link(this.#hidden, path);
      // By way of /proc: linkat's AT_EMPTY_PATH asks for a capability more.
      else
        native().linkat(
          AT_FDCWD,
          Buffer.from(`/proc/self/fd/${this.fd}`),
          AT_FDCWD,
          Buffer.from(path),
          AT_SYMLINK_FOLLOW,
        );
    } catch (cause) {
      if (errnoOf(cause) === 'EEXIST') throw new ArchiveError('OUTPUT_EXISTS', { path, cause });
      throw cause;
    }
  }
}

function hiddenName(directory: string, label: string): string {
  return join(directory, `.stillframe-${randomBytes(6).toString('hex')}.${label.slice(0, 50)}`);
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
