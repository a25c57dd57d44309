/**
 * The upper directory of an overlay, turned into what a container checkpoint holds: the files to put on top of the
 * image (`rootfs-diff.tar`), and the paths to remove after that (`deleted.files`).
 * Source: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories", Linux v6.12.
 */
import { setImmediate } from 'node:timers/promises';
import type { Entry } from '../../archive/format/entry.js';
import { ContainerError } from '../model/container-error.js';
import type { OverlayRoot } from './mounts.js';

/** What an upper directory says about the layers below it. Paths are bytes as latin1 text, relative to the root. */
export interface OverlayDiff {
  /** Paths that were deleted. */
  deleted: string[];
  /** Directories that hide all that is below them in the layers underneath. */
  opaque: string[];
  /** What the upper directory has at a path; undefined for nothing, and for what is neither a directory nor a mark. */
  at(path: string): Mark | undefined;
}

export type Mark = 'deleted' | 'directory' | 'opaque';

/**
 * Sees every entry of an upper directory, lets the files through without the overlay's marks, and remembers the
 * marks and the directories, but no files, of which there may be a million. An entry may come again when it changed.
 * Names are relative to the directory, its own being '' or '.'.
 */
export class OverlayFilter {
  readonly #upperDir: string;
  readonly #prefix: string;
  readonly #marks = new Map<string, Mark>();

  constructor({ upperDir, xattrPrefix }: Pick<OverlayRoot, 'upperDir' | 'xattrPrefix'>) {
    this.#upperDir = upperDir;
    this.#prefix = xattrPrefix;
  }

  /**
   * The entry as it goes into the archive, or undefined when it is a mark of the overlay and not a file.
   * @throws ContainerError OVERLAY_UNSUPPORTED
   */
  readonly entry = (entry: Entry): Entry | undefined => {
    const name = relativeName(entry.name);
    const attributes = this.#overlayAttributes(entry);
    // Since Linux 5.8 all whiteouts of an overlay are hard links of one.
    const linked =
      entry.type === 'hardlink' &&
      entry.linkname !== undefined &&
      this.#marks.get(relativeName(entry.linkname)) === 'deleted';
    if (linked || isWhiteout(entry, attributes)) {
      this.#marks.set(name, 'deleted');
      return undefined;
    }
    for (const feature of ['metacopy', 'redirect']) {
      if (attributes.has(feature))
        throw new ContainerError('OVERLAY_UNSUPPORTED', { upperDir: this.#upperDir, name, feature });
    }
    // 'x' is another mark of the same name: the whiteouts in this directory are attributes.
    const opaque = attributes.get('opaque') === 'y';
    if (entry.type === 'directory') this.#marks.set(name, opaque ? 'opaque' : 'directory');
    else this.#marks.delete(name);
    return attributes.size === 0 ? entry : this.#withoutAttributes(entry);
  };

  /** What the marks mean, of those entries that are still there. */
  async diff(livePaths: Iterable<Buffer>): Promise<OverlayDiff> {
    const marks = new Map<string, Mark>();
    for await (const name of inTurns(livePaths)) {
      const mark = this.#marks.get(name);
      if (mark !== undefined) marks.set(name, mark);
    }
    const pathsOf = (wanted: Mark): string[] => [...marks].filter(([, mark]) => mark === wanted).map(([name]) => name);
    return { deleted: pathsOf('deleted'), opaque: pathsOf('opaque'), at: (name) => marks.get(name) };
  }

  /** The overlay's own attributes, without their prefix. */
  #overlayAttributes({ xattrs = [] }: Entry): Map<string, string> {
    const own = new Map<string, string>();
    for (const { name, value } of xattrs) {
      const text = name.toString('latin1');
      if (text.startsWith(this.#prefix)) own.set(text.slice(this.#prefix.length), value.toString('latin1'));
    }
    return own;
  }

  #withoutAttributes({ xattrs = [], ...entry }: Entry): Entry {
    const kept = xattrs.filter(({ name }) => !name.toString('latin1').startsWith(this.#prefix));
    return kept.length === 0 ? entry : { ...entry, xattrs: kept };
  }
}

function isWhiteout(entry: Entry, attributes: ReadonlyMap<string, string>): boolean {
  return (
    (entry.type === 'character-device' && entry.devmajor === 0 && entry.devminor === 0) ||
    (entry.type === 'file' && entry.size === 0 && attributes.has('whiteout'))
  );
}

/** So many names are looked at before others get their turn. */
const TURN = 1000;

/** The names, as `OverlayDiff` has them. */
export async function* inTurns(paths: Iterable<Buffer>): AsyncGenerator<string> {
  let seen = 0;
  for (const path of paths) {
    if (++seen % TURN === 0) await setImmediate();
    yield relativeName(path);
  }
}

function relativeName(name: Buffer): string {
  const text = name.toString('latin1');
  return text === '.' ? '' : text.replace(/^\.\//, '');
}
