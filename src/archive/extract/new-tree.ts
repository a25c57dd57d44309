/** Files that are made hidden, beside the place where they go and where nothing is, and that get their name later. */
import { closeSync, constants, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import { lstatAt, pathOfFd, RENAME_NOREPLACE } from '../../openat.js';
import { PrivateDirectory, type PrivateDirectoryWatch } from '../../private-directory.js';
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

const TREE = Buffer.from('tree');

export class NewTree {
  /** Where the files are made. Its descriptor is the maker's to close. */
  readonly target: OpenDestination;
  readonly path: string;
  readonly #parentFd: number;
  readonly #hidden: PrivateDirectory;
  readonly #treeFd: number | undefined;
  readonly #watch: NewTreeWatch;
  #remove: () => Promise<void>;

  private constructor(path: string, parentFd: number, isDirectory: boolean, watch: NewTreeWatch) {
    this.path = path;
    this.#watch = watch;
    this.#parentFd = parentFd;
    const parent = { path: dirname(path), fd: openAgain(parentFd) };
    this.#hidden = PrivateDirectory.make(parent, watch.hidden);
    if (isDirectory) this.#treeFd = this.#hidden.makeInner(TREE.toString()).fd;
    this.target = {
      path,
      fd: openAgain(this.#treeFd ?? this.#hidden.fd),
      fileName: isDirectory ? undefined : TREE.toString(),
      made: undefined,
      before: undefined,
    };
    this.#remove = () => this.#close();
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
      const fd = openAgain(parent.fd);
      try {
        return new NewTree(path, fd, root.isDirectory, watch);
      } catch (cause) {
        closeSync(fd);
        throw new ArchiveError('EXTRACT_FAILED', { path, what: 'no directory can be made beside it', cause });
      }
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
    const name = lastName(path);
    const isDirectory = this.#treeFd !== undefined;
    const directory = isDirectory ? lstatAt(this.#hidden.fd, TREE) : undefined;
    await this.#watch.willPlace({ path, hiddenPath: join(this.#hidden.path, TREE.toString()), directory });
    try {
      native().renameat2(this.#hidden.fd, TREE, this.#parentFd, name, RENAME_NOREPLACE);
    } catch (cause) {
      if (errnoOf(cause) === 'EEXIST') throw new ArchiveError('DESTINATION_EXISTS', { path, cause });
      throw new ArchiveError('EXTRACT_FAILED', { path, what: 'it cannot be given its place', cause });
    }
    this.#remove = remover({
      path,
      fd: this.#treeFd ?? this.#parentFd,
      fileName: isDirectory ? undefined : name.toString('latin1'),
      made: isDirectory ? { parentFd: this.#parentFd, name } : undefined,
      before: undefined,
    });
    await this.#close();
  }

  /** Nothing of it is left, wherever it was. Again, it does nothing. */
  async remove(): Promise<void> {
    const remove = this.#remove;
    this.#remove = () => Promise.resolve();
    await remove();
  }

  async #close(): Promise<void> {
    try {
      await this.#hidden.remove();
    } finally {
      closeSync(this.#parentFd);
    }
  }
}

function openAgain(fd: number): number {
  return openSync(pathOfFd(fd), constants.O_RDONLY | constants.O_DIRECTORY);
}
