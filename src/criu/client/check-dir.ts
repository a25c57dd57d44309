import { closeSync, existsSync } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openPlain, PrivateDirectory } from '../../private-directory.js';
import { removeAt } from '../../removal.js';
import { openTrusted, UntrustedDirectoryError } from '../../trusted-directory.js';
import { CriuError } from '../errors/criu-error.js';

/** The name says whose it is: what a killed process left can be told from what is in use. */
const PREFIX = 'stillframe-criu-check-';
const STALE_MS = 60_000;

/**
 * A directory for a CHECK, which CRIU before 4.2 wants and always writes its log to. Removes first what processes left
 * that were killed in the middle of one: they cannot have a guardian yet, since nothing is being checkpointed.
 */
export class CheckDir implements AsyncDisposable {
  readonly #directory: PrivateDirectory;

  private constructor(directory: PrivateDirectory) {
    this.#directory = directory;
  }

  /** @throws CriuError CRIU_IO when there cannot be one, with the system's error as cause */
  static async make(): Promise<CheckDir> {
    try {
      await removeStale();
      // Nothing secret is in it: a place where others can rename it will do.
      return new CheckDir(PrivateDirectory.make(await openPlain(tmpdir()), {}, `${PREFIX}${process.pid}-`));
    } catch (cause) {
      throw new CriuError('CRIU_IO', {
        request: 'CHECK',
        option: 'TMPDIR',
        reason: `cannot make a directory in ${tmpdir()}`,
        cause,
      });
    }
  }

  get fd(): number {
    return this.#directory.fd;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#directory.remove();
  }
}

/**
 * A dead owner is not enough: one of another pid namespace looks dead from here. But a check takes no minute. Nothing
 * is removed where somebody else could have given another directory of ours that name.
 */
async function removeStale(): Promise<void> {
  const names = (await readdir(tmpdir())).filter((name) => {
    const owner = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
    return owner !== undefined && !existsSync(`/proc/${owner}`);
  });
  if (names.length === 0) return;
  const place = await openTrusted(tmpdir()).catch((error: unknown) => {
    if (error instanceof UntrustedDirectoryError) return undefined;
    throw error;
  });
  if (place === undefined) return;
  try {
    for (const name of names) {
      const stat = await lstat(join(place.path, name)).catch(() => undefined); // another was faster
      const isStale =
        stat?.isDirectory() === true && stat.uid === process.geteuid?.() && Date.now() - stat.mtimeMs >= STALE_MS;
      if (isStale) await removeAt(place.fd, Buffer.from(name));
    }
  } finally {
    closeSync(place.fd);
  }
}
