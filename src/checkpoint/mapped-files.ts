import { readFileSync, statSync } from 'node:fs';

/**
 * The files that tasks of the tree have mapped shared and writable, as `dev:ino` in stat(2)'s numbers.
 * Such a mapping changes its file without touching mtime or ctime, so that no stat can tell whether a
 * copy is still good.
 * Source: /proc/PID/maps and map_files, Documentation/filesystems/proc.rst, section 1.1.
 */
export function sharedWritableFiles(pids: Iterable<number>): Set<string> {
  const files = new Set<string>();
  for (const pid of pids) {
    for (const range of sharedWritableRanges(readMaps(pid))) {
      // Not the numbers of the maps line: on btrfs and overlayfs they are not those that stat(2) gives.
      const stat = statMapped(`/proc/${pid}/map_files/${range}`);
      if (stat !== undefined) files.add(`${stat.dev}:${stat.ino}`);
    }
  }
  return files;
}

/** The address ranges of a maps text that are shared, writable and backed by a file. */
export function* sharedWritableRanges(maps: string): Generator<string> {
  for (const [, range] of maps.matchAll(/^([0-9a-f]+-[0-9a-f]+) .w.s [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ [1-9]\d*/gm)) {
    // map_files names its entries without the leading zeros that maps pads with.
    yield range!.split('-').map((address) => address.replace(/^0+(?=.)/, '')).join('-');
  }
}

/** A task that ended, or a thread group whose memory is gone, maps nothing. */
function readMaps(pid: number): string {
  return orGone(() => readFileSync(`/proc/${pid}/maps`, 'latin1')) ?? '';
}

function statMapped(path: string): { dev: bigint; ino: bigint } | undefined {
  return orGone(() => statSync(path, { bigint: true }));
}

function orGone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
}
