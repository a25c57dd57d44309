/** The file that a program's standard output and standard error are appended to. */
import { closeSync, constants, fchmodSync, fstatSync, lstatSync, mkdirSync, openSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { pathOfFd } from '../../openat.js';
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
 * The log of an archive has to be there, because the restored program has it open. A missing one is made again, empty,
 * in the directory of logs only: the path is the archive's, and an empty file can do harm elsewhere (/etc/nologin).
 * @returns whether it was made
 * @throws CheckpointError LOG_UNUSABLE
 */
export async function remakeLog(path: string): Promise<boolean> {
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) return false;
  if (dirname(path) !== LOG_DIR)
    throw new CheckpointError('LOG_UNUSABLE', { path, why: 'of the checkpointed program is gone', isRecorded: true });
  let directory: { fd: number } | undefined;
  try {
    mkdirSync(LOG_DIR, { recursive: true, mode: 0o700 });
    directory = await openTrusted(LOG_DIR);
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    const fd = openSync(join(pathOfFd(directory.fd), basename(path)), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    fchmodSync(fd, 0o600);
    closeSync(fd);
    return true;
  } catch (cause) {
    throw new CheckpointError('LOG_UNUSABLE', { path, why: 'cannot be made again', isRecorded: true, cause });
  } finally {
    if (directory !== undefined) closeSync(directory.fd);
  }
}
