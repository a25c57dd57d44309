import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CriuDumpOptions } from '../../criu/index.js';
import { lockHolders } from '../../proc/locks.js';

/**
 * CRIU's options for a tree that holds write leases (fcntl F_SETLEASE). To note the build id of an open file CRIU opens
 * it once more (criu/files-reg.c, store_validation_data_build_id), which breaks the lease: CRIU then waits for the
 * frozen holder's answer, 45 s by default (/proc/sys/fs/lease-break-time). With `file-validation filesize`, which only a
 * configuration file can say, it notes sizes alone. A configuration file of the caller's stays as it is.
 */
export async function withoutBreakingLeases(
  pids: readonly number[],
  { configFile, directory }: { configFile: string | undefined; directory: string },
): Promise<Pick<CriuDumpOptions, 'configFile'>> {
  const holders = lockHolders('LEASE', 'WRITE');
  if (configFile !== undefined || !pids.some((pid) => holders.has(pid))) return {};
  const path = join(directory, 'criu.conf');
  await writeFile(path, 'file-validation filesize\n', { mode: 0o600 });
  return { configFile: path };
}
