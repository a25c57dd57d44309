import { readlinkSync } from 'node:fs';
import type { FileInUse } from '../../checkpoint/window/files-in-use.js';
import { lookUp } from '../../look-up.js';
import type { OverlayRoot } from './mounts.js';

const DELETED = ' (deleted)';

/**
 * Those of the files that are in an overlay's upper directory, as `dev:ino` of the upper file. Through a mapping or a
 * descriptor the kernel shows the overlay's numbers, which no scan of the upper directory ever meets.
 */
export async function upperFiles(
  inUse: readonly FileInUse[],
  { upperDir, device }: Pick<OverlayRoot, 'upperDir' | 'device'>,
  signal?: AbortSignal,
): Promise<Set<string>> {
  const files = new Set<string>();
  const ofOverlay = inUse.filter(({ dev }) => deviceText(dev) === device);
  // A file that was copied up shows the lower inode's number: then only the path leads to it.
  const paths = ofOverlay.flatMap(({ link }) => {
    const path = orGone(() => readlinkSync(link, { encoding: 'buffer' }));
    const isNamed = path !== undefined && !path.toString('latin1').endsWith(DELETED);
    return isNamed ? [Buffer.concat([Buffer.from(upperDir), path])] : [];
  });
  const [upper, ...byPath] = await lookUp([upperDir, ...paths], { follow: false, signal });
  if (upper === undefined) return files;
  // One that never was in a lower layer has its upper inode's number, also when its name is gone.
  for (const { ino } of ofOverlay) files.add(`${upper.dev}:${ino}`);
  for (const file of byPath) if (file !== undefined) files.add(`${file.dev}:${file.ino}`);
  return files;
}

/** As /proc writes a device: makedev(3)'s major and minor, in decimal. */
function deviceText(dev: bigint): string {
  const major = ((dev >> 32n) & 0xfffff000n) | ((dev >> 8n) & 0xfffn);
  const minor = ((dev >> 12n) & 0xffffff00n) | (dev & 0xffn);
  return `${major}:${minor}`;
}

function orGone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}
