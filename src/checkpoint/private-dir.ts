import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CheckpointError } from './checkpoint-error.js';

/**
 * A directory of our own, mode 0700 and of an unguessable name, removed with all it holds at the end of
 * its scope: memory images of running programs pass through it.
 */
export class PrivateDir implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** @throws CheckpointError WORK_DIR_UNUSABLE */
  static async make(parent: string): Promise<PrivateDir> {
    try {
      return new PrivateDir(await mkdtemp(join(parent, '.stillframe-')));
    } catch (cause) {
      throw new CheckpointError('WORK_DIR_UNUSABLE', { path: parent, cause });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}
