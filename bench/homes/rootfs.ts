import { chmod, copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { findProgram, workload } from '../run.js';

/**
 * The smallest root file system that the engines take: programs of workloads/, busybox where there is one, and mount
 * points.
 */
export async function makeRootfs(dir: string, programs: readonly string[] = ['gauge']): Promise<void> {
  for (const name of ['bin', 'data', 'dev', 'etc', 'proc', 'status', 'sys', 'tmp'])
    await mkdir(join(dir, name), { recursive: true });
  for (const program of programs) {
    await copyFile(workload(program), join(dir, 'bin', program));
    await chmod(join(dir, 'bin', program), 0o755);
  }
  const busybox = findProgram('busybox');
  if (busybox !== undefined) await copyFile(busybox, join(dir, 'bin/busybox'));
}
