import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { lookUp } from '../../look-up.js';

/**
 * Links in /proc to the files that tasks of the tree have mapped shared and writable. Such a mapping changes its file
 * without touching mtime or ctime, so that no stat can tell whether a copy is still good.
 * Source: /proc/PID/maps and map_files, Documentation/filesystems/proc.rst, section 1.1.
 */
export function* sharedWritableMappings(pids: Iterable<number>): Generator<string> {
  for (const pid of pids) {
    // A task that ended, or a thread group whose memory is gone, maps nothing.
    for (const range of sharedWritableRanges(orGone(() => readFileSync(`/proc/${pid}/maps`, 'latin1')) ?? ''))
      yield `/proc/${pid}/map_files/${range}`;
  }
}

/** The address ranges of a maps text that are shared, writable and backed by a file. */
function* sharedWritableRanges(maps: string): Generator<string> {
  for (const [, range] of maps.matchAll(/^([0-9a-f]+-[0-9a-f]+) .w.s [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ [1-9]\d*/gm)) {
    // map_files names its entries without the leading zeros that maps pads with.
    yield range!
      .split('-')
      .map((address) => address.replace(/^0+(?=.)/, ''))
      .join('-');
  }
}

/**
 * Links in /proc to the files that tasks of the tree have open for writing: the permissions of the link itself say so.
 * Source: /proc/PID/fd, proc_pid_fd(5).
 */
export function* openForWriting(pids: Iterable<number>): Generator<string> {
  for (const link of descriptorsOf(pids)) if (((orGone(() => lstatSync(link))?.mode ?? 0) & 0o200) !== 0) yield link;
}

/** Links in /proc to all that tasks of the tree have open. */
export function* descriptorsOf(pids: Iterable<number>): Generator<string> {
  for (const pid of pids) {
    const directory = `/proc/${pid}/fd`;
    for (const fd of orGone(() => readdirSync(directory)) ?? []) yield `${directory}/${fd}`;
  }
}

/**
 * A file in use, by the link in /proc that leads to it, in stat(2)'s numbers: on btrfs and overlayfs a maps line has
 * others.
 */
export interface FileInUse {
  link: string;
  dev: bigint;
  ino: bigint;
}

/**
 * The regular files that the links lead to. A file whose server does not answer holds it up until the signal is
 * aborted.
 */
export async function filesBehind(links: Iterable<string>, signal?: AbortSignal): Promise<FileInUse[]> {
  const all = [...links];
  const found = await lookUp(all, { follow: true, signal });
  return all.flatMap((link, i) => {
    const file = found[i];
    return file?.isFile === true ? [{ link, dev: file.dev, ino: file.ino }] : [];
  });
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
