import { existsSync } from 'node:fs';
import { lstat, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CriuError } from '../errors/criu-error.js';

/** The name says whose it is: what a killed process left can be told from what is in use. */
const PREFIX = 'stillframe-criu-check-';
const STALE_MS = 60_000;

/**
 * A directory for a CHECK, which CRIU before 4.2 wants and always writes its log to. Removes first what processes left
 * that were killed in the middle of one: they cannot have a guardian yet, since nothing is being checkpointed.
 */
export class CheckDir implements AsyncDisposable {
  private constructor(readonly path: string) {}

  /** @throws CriuError CRIU_IO when there cannot be one, with the system's error as cause */
  static async make(): Promise<CheckDir> {
    try {
      await removeStale();
      return new CheckDir(await mkdtemp(join(tmpdir(), `${PREFIX}${process.pid}-`)));
    } catch (cause) {
      throw new CriuError('CRIU_IO', {
        request: 'CHECK',
        option: 'TMPDIR',
        reason: `cannot make a directory in ${tmpdir()}`,
        cause,
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

/** A dead owner is not enough: one of another pid namespace looks dead from here. But a check takes no minute. */
async function removeStale(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const owner = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
    if (owner === undefined || existsSync(`/proc/${owner}`)) continue;
    const path = join(tmpdir(), name);
    const stat = await lstat(path).catch(() => undefined); // another was faster
    if (
      stat === undefined ||
      !stat.isDirectory() ||
      stat.uid !== process.geteuid?.() ||
      Date.now() - stat.mtimeMs < STALE_MS
    )
      continue;
    await rm(path, { recursive: true, force: true });
  }
}
