/**
 * Deletions as marks in rootfs-diff.tar itself: an empty file `.wh.NAME` beside where NAME was. containerd's restore
 * knows only these; it does not read deleted.files. CRI-O and Podman read only deleted.files, and would put the marks
 * into the container as files. So they are written for containerd's containers alone.
 * Source: opencontainers/image-spec v1.1, layer.md, "Whiteouts"; containerd v2.1 to v2.3, pkg/archive/tar.go,
 * applyNaive, called from core/runtime/v2/shim.go.
 */
import { printable, type Entry } from '../../archive/index.js';
import { takeTurns } from '../../yield-to-loop.js';
import { ContainerError } from '../model/container-error.js';

const PREFIX = Buffer.from('.wh.');

/** All that the image has at the root and the difference has not is gone: the difference is the whole root. */
export const OPAQUE_ROOT: Entry = markOf(Buffer.from('.wh..wh..opq'));

/**
 * A mark for each path. They go behind all files: what one removes is in the difference nowhere, and the directory it
 * is in has come by then, or else containerd would make one.
 * @param deleted Absolute paths in the container.
 * @throws ContainerError WHITEOUT_NAME for a path whose mark would mean something else
 */
export async function whiteoutsOf(deleted: readonly string[], id: string): Promise<Entry[]> {
  const marks: Entry[] = [];
  let turn = performance.now();
  for (const path of deleted) {
    const name = Buffer.from(path.slice(1));
    const at = name.lastIndexOf('/') + 1;
    if (isMarked(name)) throw new ContainerError('WHITEOUT_NAME', { id, path: printable(path) });
    marks.push(markOf(Buffer.concat([name.subarray(0, at), PREFIX, name.subarray(at)])));
    turn = await takeTurns(turn);
  }
  return marks;
}

export function isWhiteout({ type, size, name }: Entry): boolean {
  return type === 'file' && size === 0 && isMarked(name);
}

/**
 * A filter for a tree that will hold such marks: a file of that name could not be told from one.
 * @throws ContainerError WHITEOUT_NAME, from the filter
 */
export function refusingWhiteoutNames(
  id: string,
  filter: (entry: Entry) => Entry | undefined = (entry) => entry,
): (entry: Entry) => Entry | undefined {
  return (entry) => {
    const kept = filter(entry);
    if (kept !== undefined && isMarked(kept.name))
      throw new ContainerError('WHITEOUT_NAME', { id, path: `/${printable(kept.name)}` });
    return kept;
  };
}

function isMarked(name: Buffer): boolean {
  const at = name.lastIndexOf('/') + 1;
  return name.subarray(at, at + PREFIX.length).equals(PREFIX);
}

/** Time and mode mean nothing; containerd's own have the same. */
function markOf(name: Buffer): Entry {
  return { name, type: 'file', mode: 0, uid: 0, gid: 0, size: 0, mtimeNs: 0n };
}
