/** Files that are made hidden, beside the place where they go and where nothing is, and that get their name later. */
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import { lstatAt, RENAME_NOREPLACE } from '../../openat.js';
import type { PrivateDirectoryWatch } from '../../private-directory.js';
import { ArchiveError } from '../format/archive-error.js';
import {
  lastName,
  openParent,
  pathOf,
  remover,
  type NamedDestination,
  type OpenDestination,
  type RootEntry,
} from './destination.js';
import { HiddenPlace, TREE } from './hidden-place.js';

/** For whoever removes it when we die. */
export interface NewTreeWatch {
  hidden: PrivateDirectoryWatch;
  /** Before a tree gets its place. What is at `path` may be it from then on. */
  willPlace: (planned: PlannedTree) => Promise<void>;
}

export interface PlannedTree {
  path: string;
  /** Where it is until then. */
  hiddenPath: string;
  /** Its root, where that is a directory. */
  directory: { dev: bigint; ino: bigint } | undefined;
}

export class NewTree {
  readonly target: OpenDestination;
  readonly path: string;
  readonly #place: HiddenPlace;
  readonly #watch: NewTreeWatch;
  #remove: () => Promise<void>;

  private constructor(path: string, place: HiddenPlace, watch: NewTreeWatch) {
    this.path = path;
    this.target = place.target;
    this.#place = place;
    this.#watch = watch;
    this.#remove = () => place.close();
  }

  /**
   * Undefined where something is already.
   * @throws ArchiveError DESTINATION_MISSING, DESTINATION_UNSAFE, EXTRACT_FAILED
   */
  static async open(destination: NamedDestination, root: RootEntry, watch: NewTreeWatch): Promise<NewTree | undefined> {
    const path = pathOf(destination);
    const parent = await openParent(path, typeof destination === 'object', root.uid);
    try {
      if (lstatAt(parent.fd, lastName(path)) !== undefined) return undefined;
      return new NewTree(path, HiddenPlace.make(path, parent.fd, root.isDirectory, watch.hidden), watch);
    } finally {
      closeSync(parent.fd);
    }
  }

  /**
   * The files get their name, in one step.
   * @throws ArchiveError DESTINATION_EXISTS, EXTRACT_FAILED; `remove` is still to be called then
   */
  async takePlace(): Promise<void> {
    const { path } = this;
    const { hidden, parentFd, treeFd } = this.#place;
    const name = lastName(path);
    const isDirectory = treeFd !== undefined;
    const directory = isDirectory ? lstatAt(hidden.fd, TREE) : undefined;
    await this.#watch.willPlace({ path, hiddenPath: join(hidden.path, TREE.toString()), directory });
    try {
      native().renameat2(hidden.fd, TREE, parentFd, name, RENAME_NOREPLACE);
    } catch (cause) {
      if (errnoOf(cause) === 'EEXIST') throw new ArchiveError('DESTINATION_EXISTS', { path, cause });
      throw new ArchiveError('EXTRACT_FAILED', { path, what: 'it cannot be given its place', cause });
    }
    this.#remove = remover({
      path,
      fd: treeFd ?? parentFd,
      fileName: isDirectory ? undefined : name.toString('latin1'),
      made: isDirectory ? { parentFd, name } : undefined,
      before: undefined,
    });
    await this.#place.close();
  }

  /** Nothing of it is left, wherever it was. Again, it does nothing. */
  async remove(): Promise<void> {
    const remove = this.#remove;
    this.#remove = () => Promise.resolve();
    await remove();
  }
}
