/** The file that a program's standard output and standard error are appended to. */
import { closeSync, constants, fchmodSync, fstatSync, mkdirSync, openSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { openTrusted } from '../../trusted-directory.js';
import { CheckpointError } from '../base/checkpoint-error.js';

/** Where it is unless somebody says otherwise: not below /run, which a reboot empties, and which is memory. */
export const LOG_DIR = '/var/log/stillframe';

export function defaultLogPath(name: string): string {
  return join(LOG_DIR, `${name}.log`);
}

/**
 * Opens it for appending, created with mode 0600 when it is missing. CRIU compares no size of a file that is open for
 * appending, so that the log may grow between a checkpoint and its restore: criu/files-reg.c, CRIU v4.2.
 * @param options `makeDirectory`: the directory, too, mode 0700.
 * @returns a descriptor, the caller's to close
 * @throws CheckpointError LOG_UNUSABLE
 */
export function openLog(path: string, { makeDirectory }: { makeDirectory: boolean }): number {
  try {
    if (makeDirectory) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW, O_NOCTTY } = constants;
    const fd = openSync(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NOCTTY, 0o600);
    if (fstatSync(fd).isFile()) return fd;
    closeSync(fd);
  } catch (cause) {
    throw new CheckpointError('LOG_UNUSABLE', { path, why: 'cannot be opened for appending', cause });
  }
  throw new CheckpointError('LOG_UNUSABLE', { path, why: 'is not a regular file' });
}

/**
 * Makes the log of an archive again where it is gone, empty: the restored program has it open. The path is the
 * archive's, so that it is made only where nobody else could lead it elsewhere; a missing one is CRIU's to tell of then.
 * @returns whether it was made
 */
export async function remakeLog(path: string): Promise<boolean> {
  let directory: { fd: number } | undefined;
  try {
    if (dirname(path) === LOG_DIR) mkdirSync(LOG_DIR, { recursive: true, mode: 0o700 });
    directory = await openTrusted(dirname(path));
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    const file = join(`/proc/self/fd/${directory.fd}`, basename(path));
    const fd = openSync(file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    fchmodSync(fd, 0o600);
    closeSync(fd);
    return true;
  } catch {
    return false;
  } finally {
    if (directory !== undefined) closeSync(directory.fd);
  }
}
