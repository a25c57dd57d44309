import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CheckpointError } from './checkpoint-error.js';

/** The private directory that a path leads to or into, by its name. */
export function privateDirIn(path: string): string | undefined {
  return /^.*?\/\.stillframe-[0-9a-f]{16}(?=\/|$)/s.exec(path)?.[0];
}

/**
 * A directory of our own, mode 0700 and of an unguessable name, removed with all it holds at the end of
 * its scope: memory images of running programs pass through it.
 */
export class PrivateDir implements AsyncDisposable {
  readonly path: string;
  readonly #onRemoved: ((path: string) => void) | undefined;

  private constructor(path: string, onRemoved: ((path: string) => void) | undefined) {
    this.path = path;
    this.#onRemoved = onRemoved;
  }

  /**
   * @param watch Told the path before the directory is made, and when it is removed.
   * @throws CheckpointError WORK_DIR_UNUSABLE
   */
  static async make(
    parent: string,
    watch: { willMake?: (path: string) => void; removed?: (path: string) => void } = {},
  ): Promise<PrivateDir> {
    const path = join(parent, `.stillframe-${randomBytes(8).toString('hex')}`);
    watch.willMake?.(path);
    try {
      // Fails on an existing one, whoever made it.
      await mkdir(path, { mode: 0o700 });
      return new PrivateDir(path, watch.removed);
    } catch (cause) {
      watch.removed?.(path);
      throw new CheckpointError('WORK_DIR_UNUSABLE', { path: parent, cause });
    }
  }

  /** @throws CheckpointError LEFT_BEHIND */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await rm(this.path, { recursive: true, force: true });
    } catch (cause) {
      throw new CheckpointError('LEFT_BEHIND', { path: this.path, cause });
    }
    this.#onRemoved?.(this.path);
  }
}
