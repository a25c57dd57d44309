import { copyFile, constants } from 'node:fs/promises';
import { CriuError } from '../../criu/index.js';

/**
 * CRIU logs into a private directory that is removed at the end. Keeps the log where the caller wants it; an error
 * then names that copy, or else no file at all (its last error lines are in the error either way).
 * @param keepAt A path for the copy; an existing file is not replaced.
 */
export async function withoutLostLog(error: unknown, logPath: string, keepAt: string | undefined): Promise<unknown> {
  const kept = keepAt === undefined ? undefined : await keepLog(logPath, keepAt);
  if (!(error instanceof CriuError) || error.facts.logPath !== logPath) return error;
  return new CriuError(error.code, { ...error.facts, logPath: kept, cause: error.cause });
}

/** @returns where it is kept; undefined when CRIU wrote none, or it could not be copied: that must not hide the error */
export async function keepLog(logPath: string, keepAt: string): Promise<string | undefined> {
  try {
    await copyFile(logPath, keepAt, constants.COPYFILE_EXCL);
    return keepAt;
  } catch {
    return undefined;
  }
}
