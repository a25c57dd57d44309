import { statfsSync, type StatsFs } from 'node:fs';
import { ASKS_A_SERVER, mountLines } from '../../proc/mountinfo.js';
import { unescapeOctal } from '../../proc/octal.js';
import { readProc, readProcLink } from '../../proc/task.js';

/** statfs(2), f_type. */
export function isTmpfs({ type }: StatsFs): boolean {
  return type === 0x0102_1994;
}

const OURS = readProcLink('self/ns/mnt');

/**
 * What is in the tmpfs mounts of mount namespaces other than ours, in bytes: CRIU puts it into the images. One that is
 * mounted from outside may be among them; one that lies below another mount, or below one that a server answers for, is
 * missed.
 */
export function ownTmpfsBytes(pids: readonly number[]): number {
  const namespaces = new Map(pids.map((pid) => [readProcLink(`${pid}/ns/mnt`), pid]));
  const bytes = new Map<string, number>();
  for (const [namespace, pid] of namespaces) {
    if (namespace === undefined || namespace === OURS) continue;
    const mounts = mountLines(readProc(`${pid}/mountinfo`) ?? '');
    const servers = mounts.filter(({ fsType }) => ASKS_A_SERVER.test(fsType));
    for (const { device, root, mountPoint, fsType } of mounts) {
      if (fsType !== 'tmpfs' || root !== '/' || bytes.has(device)) continue;
      if (servers.some((server) => isAtOrBelow(mountPoint, server.mountPoint))) continue;
      bytes.set(device, usedBytes(`/proc/${pid}/root${unescapeOctal(mountPoint)}`));
    }
  }
  return [...bytes.values()].reduce((sum, used) => sum + used, 0);
}

function isAtOrBelow(path: string, directory: string): boolean {
  return directory === '/' || path === directory || path.startsWith(`${directory}/`);
}

function usedBytes(path: string): number {
  try {
    const stats = statfsSync(path);
    return isTmpfs(stats) ? (stats.blocks - stats.bfree) * stats.bsize : 0;
  } catch {
    return 0; // it was unmounted, or another mount hides it
  }
}
