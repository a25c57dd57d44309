import { chmod, copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { findProgram, workload } from '../run.js';

/** The smallest root file system that the engines take: the gauge, busybox where there is one, and mount points. */
export async function makeRootfs(dir: string): Promise<void> {
  for (const name of ['bin', 'data', 'dev', 'etc', 'proc', 'status', 'sys', 'tmp']) await mkdir(join(dir, name), { recursive: true });
  await copyFile(workload('gauge'), join(dir, 'bin/gauge'));
  await chmod(join(dir, 'bin/gauge'), 0o755);
  const busybox = findProgram('busybox');
  if (busybox !== undefined) await copyFile(busybox, join(dir, 'bin/busybox'));
}
