/**
 * Files that take the place of others in one rename. They are made in a hidden directory beside the old ones, which
 * nobody else can enter, and are exchanged with them (RENAME_EXCHANGE of renameat2(2)): at each moment the name leads
 * to the whole of the one or of the other.
 */
import { closeSync, readFileSync, readlinkSync, realpathSync, type BigIntStats } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import { lstatAt, pathOfFd, RENAME_EXCHANGE, RENAME_NOREPLACE } from '../../openat.js';
import type { PrivateDirectory, PrivateDirectoryWatch } from '../../private-directory.js';
import { mountLines } from '../../proc/mountinfo.js';
import { unescapeOctal } from '../../proc/octal.js';
import { removeAt } from '../../removal.js';
import { ArchiveError } from '../format/archive-error.js';
import {
  isEmptyAt,
  isOwn,
  openParent,
  pathOf,
  unsafe,
  type NamedDestination,
  type RootEntry,
  type OpenDestination,
} from './destination.js';
import { HiddenPlace, TREE } from './hidden-place.js';

/** For whoever puts things right when we die. */
export interface ReplacementWatch {
  hidden: PrivateDirectoryWatch;
  /** Before the exchange. What is `tree` in the hidden directory may be the old files from then on. */
  willReplace: (planned: PlannedReplacement) => Promise<void>;
}

export interface PlannedReplacement {
  path: string;
  hiddenPath: string;
  /** What the old files are called in the end; undefined when they go. */
  keptName: string | undefined;
  fresh: FileId;
  old: FileId;
}

interface FileId {
  dev: bigint;
  ino: bigint;
}

export interface ReplaceOptions {
  /** What becomes of the old files once `settle` says so. */
  old: 'keep' | 'remove';
  watch: ReplacementWatch;
}

/** What has become of files that others have taken the place of. */
export interface ReplacedFiles {
  path: string;
  /** Where they are; undefined when they were removed. */
  keptAs: string | undefined;
  /** Why they are not removed, or not under the name that they should have. */
  problem: string | undefined;
}

/** The longest name that Linux file systems have, in bytes. */
const MAX_NAME_BYTES = 255;

export class Replacement {
  /** Where the new files are made. */
  readonly target: OpenDestination;
  readonly path: string;
  readonly #place: HiddenPlace;
  readonly #parentFd: number;
  readonly #name: Buffer;
  readonly #hidden: PrivateDirectory;
  readonly #old: FileId;
  readonly #options: ReplaceOptions;
  #keptName: string | undefined;
  #state: 'made' | 'in place' | 'closed' = 'made';

  private constructor(path: string, place: HiddenPlace, old: FileId, options: ReplaceOptions) {
    this.path = path;
    this.target = place.target;
    this.#place = place;
    this.#parentFd = place.parentFd;
    this.#name = Buffer.from(basename(path));
    this.#hidden = place.hidden;
    this.#old = old;
    this.#options = options;
  }

  /**
   * Undefined where nothing has to be replaced: nothing is there, or an empty directory for a tree that is one.
   * @throws ArchiveError DESTINATION_MISSING, DESTINATION_UNSAFE, DESTINATION_MOUNTED, EXTRACT_FAILED
   */
  static async open(
    destination: NamedDestination,
    root: RootEntry,
    options: ReplaceOptions,
  ): Promise<Replacement | undefined> {
    const isRecorded = typeof destination === 'object';
    const path = isRecorded ? pathOf(destination) : withoutLinks(pathOf(destination));
    if (basename(path) === '') throw new ArchiveError('DESTINATION_MOUNTED', { path });
    const parent = await openParent(path, isRecorded, root.uid);
    try {
      const name = Buffer.from(basename(path));
      const old = lstatAt(parent.fd, name);
      if (old === undefined || (root.isDirectory && old.isDirectory() && (await isEmptyAt(parent.fd, name))))
        return undefined;
      if (isRecorded && old.isSymbolicLink()) throw unsafe(path, 'it is a symbolic link');
      if (isRecorded && !isOwn(Number(old.uid), parent.owner)) throw unsafe(path, `it belongs to uid ${old.uid}`);
      refuseMounts(join(readlinkSync(pathOfFd(parent.fd)), basename(path)), path);
      const place = HiddenPlace.make(path, parent.fd, root.isDirectory, options.watch.hidden);
      return new Replacement(path, place, old, options);
    } finally {
      closeSync(parent.fd);
    }
  }

  /**
   * The new files get the place of the old ones, which they hide until then.
   * @throws ArchiveError EXTRACT_FAILED; then all is as it was before, and `remove` is still to be called
   */
  async takePlace(): Promise<void> {
    const fresh = lstatAt(this.#hidden.fd, TREE);
    if (fresh === undefined || !isSame(lstatAt(this.#parentFd, this.#name), this.#old))
      throw this.#failed('it has changed');
    if (this.#options.old === 'keep') this.#keptName = this.#freeName();
    await this.#options.watch.willReplace({
      path: this.path,
      hiddenPath: this.#hidden.path,
      keptName: this.#keptName,
      fresh,
      old: this.#old,
    });
    this.#exchange();
    if (isSame(lstatAt(this.#hidden.fd, TREE), this.#old)) return void (this.#state = 'in place');
    // Somebody who can write to the directory was faster: what is his is his again.
    this.#exchange();
    throw this.#failed('it has changed');
  }

  /** All is as it was before, the new files are gone. */
  async remove(): Promise<void> {
    if (this.#state === 'closed') return;
    if (this.#state === 'in place') {
      try {
        if (lstatAt(this.#parentFd, this.#name) === undefined) this.#moveOut(this.#name);
        else native().renameat2(this.#parentFd, this.#name, this.#hidden.fd, TREE, RENAME_EXCHANGE);
      } catch (cause) {
        throw this.#failed(`the old files could not be put back: they are ${join(this.#hidden.path, 'tree')}`, cause);
      }
    }
    await this.#close();
  }

  /** The new files are there to stay: the old ones are kept beside them, or removed. */
  async settle(): Promise<ReplacedFiles> {
    const { path } = this;
    let problem: string | undefined;
    if (this.#options.old === 'remove') {
      try {
        await removeAt(this.#hidden.fd, TREE);
      } catch (error) {
        problem = (error as Error).message; // as of a file that must not be removed (chattr +i)
      }
    }
    let keptAs: string | undefined;
    try {
      if (lstatAt(this.#hidden.fd, TREE) !== undefined) keptAs = this.#keep();
    } catch (error) {
      // A full disk may have no room for another name. The tree runs all the same: they are where they are.
      this.#hidden.leave();
      closeSync(this.#parentFd);
      return { path, keptAs: join(this.#hidden.path, TREE.toString()), problem: (error as Error).message };
    }
    await this.#close().catch((error: unknown) => (problem ??= (error as Error).message));
    return { path, keptAs, problem };
  }

  #keep(): string {
    const name = this.#keptName ?? this.#freeName();
    try {
      this.#moveOut(Buffer.from(name));
      return join(dirname(this.path), name);
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
      this.#keptName = undefined;
      return this.#keep();
    }
  }

  /** Beside the new files, a name that nothing has and that says when the old ones were put there. */
  #freeName(): string {
    const suffix = `.replaced-${new Date().toISOString().replace(/[-:]|\.\d+/g, '')}`;
    for (let tries = 1; ; tries++) {
      const end = tries === 1 ? suffix : `${suffix}-${tries}`;
      const name = `${cut(this.#name, MAX_NAME_BYTES - end.length)}${end}`;
      if (lstatAt(this.#parentFd, Buffer.from(name)) === undefined) return name;
    }
  }

  #exchange(): void {
    try {
      native().renameat2(this.#parentFd, this.#name, this.#hidden.fd, TREE, RENAME_EXCHANGE);
    } catch (cause) {
      throw this.#failed('it cannot be exchanged with the new files', cause);
    }
  }

  #moveOut(name: Buffer): void {
    native().renameat2(this.#hidden.fd, TREE, this.#parentFd, name, RENAME_NOREPLACE);
  }

  #failed(what: string, cause?: unknown): ArchiveError {
    return new ArchiveError('EXTRACT_FAILED', { path: this.path, what, cause });
  }

  async #close(): Promise<void> {
    this.#state = 'closed';
    await this.#place.close();
  }
}

/** Where the caller's path leads, which is what he wants replaced; the path itself, where it leads nowhere. */
function withoutLinks(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** A mount point cannot be renamed; and one that lies below would go aside with the old files. */
function refuseMounts(realPath: string, path: string): void {
  const mounts = mountLines(readFileSync('/proc/self/mountinfo', 'utf8'));
  const mountPoints = mounts.map(({ mountPoint }) => unescapeOctal(mountPoint));
  const found = mountPoints.find((point) => point === realPath || point.startsWith(`${realPath}/`));
  if (found === undefined) return;
  throw new ArchiveError('DESTINATION_MOUNTED', {
    path,
    what: found === realPath ? 'it is a mount point' : `${found} is a mount point`,
  });
}

function isSame(found: BigIntStats | undefined, { dev, ino }: FileId): boolean {
  return found?.dev === dev && found.ino === ino;
}

/** As many whole characters as have room. */
function cut(name: Buffer, bytes: number): string {
  let text = name.toString();
  while (Buffer.byteLength(text) > bytes) text = [...text].slice(0, -1).join('');
  return text;
}
