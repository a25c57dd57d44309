import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PrivateDirectory, type PrivateDirectoryWatch } from '../../private-directory.js';
import { openTrusted, UntrustedDirectoryError } from '../../trusted-directory.js';
import { CheckpointError } from './checkpoint-error.js';

/** The private directory that a path leads to or into, by its name. */
export function privateDirIn(path: string): string | undefined {
  return /^.*?\/\.stillframe-[0-9a-f]{16}(?=\/|$)/s.exec(path)?.[0];
}

/**
 * Where private directories go that the caller has given no place: the wanted directory, or else where root keeps what
 * is large and temporary. The wanted one is often somebody's home.
 */
export function placesFor(wanted: string): string[] {
  return [wanted, '/var/tmp', tmpdir()];
}

/**
 * A directory of our own, for the memory images of running programs that pass through it: mode 0700, held by its
 * descriptor, in a place where nobody else can rename it. Removed with all it holds at the end of its scope.
 */
export class PrivateDir implements AsyncDisposable {
  readonly path: string;
  readonly fd: number;
  readonly #directory: PrivateDirectory;

  private constructor(directory: PrivateDirectory) {
    this.path = directory.path;
    this.fd = directory.fd;
    this.#directory = directory;
  }

  /**
   * @param places The first that nobody else can write to or rename is taken.
   * @throws CheckpointError WORK_DIR_UNSAFE, WORK_DIR_UNUSABLE
   */
  static async make(places: string | readonly string[], watch: PrivateDirectoryWatch = {}): Promise<PrivateDir> {
    const parent = await openPlace(places);
    try {
      return new PrivateDir(PrivateDirectory.make(parent, watch));
    } catch (cause) {
      throw new CheckpointError('WORK_DIR_UNUSABLE', { path: parent.path, cause });
    }
  }

  /** A directory in it, held open until the end. */
  makeInner(name: string): { path: string; fd: number } {
    const path = join(this.path, name);
    try {
      return this.#directory.makeInner(name);
    } catch (cause) {
      throw Object.assign(cause as Error, { path });
    }
  }

  /** See PrivateDirectory. */
  get lastingPath(): string {
    return this.#directory.lastingPath;
  }

  /** @throws CheckpointError LEFT_BEHIND */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#directory.remove();
    } catch (cause) {
      throw new CheckpointError('LEFT_BEHIND', { path: this.path, cause });
    }
  }
}

/** @throws CheckpointError WORK_DIR_UNSAFE, WORK_DIR_UNUSABLE of the first place, where none is fit */
export async function openPlace(places: string | readonly string[]): Promise<{ path: string; fd: number }> {
  let first: CheckpointError | undefined;
  for (const path of typeof places === 'string' ? [places] : places) {
    try {
      return await openTrusted(path);
    } catch (cause) {
      first ??=
        cause instanceof UntrustedDirectoryError
          ? new CheckpointError('WORK_DIR_UNSAFE', { path, directory: cause.path, why: cause.why, cause })
          : new CheckpointError('WORK_DIR_UNUSABLE', { path, cause });
    }
  }
  throw first as CheckpointError;
}
