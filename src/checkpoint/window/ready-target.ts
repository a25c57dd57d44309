import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import {
  adopt,
  checkProcess,
  checkTarget,
  FreezerError,
  isFreezerError,
  openFreezer,
  type Adoption,
  type AdoptOptions,
  type CgroupMember,
  type Freezer,
  type TargetToCheck,
} from '../../cgroup/index.js';
import type { Entry, FilesInUse, TreeSource } from '../../archive/index.js';
import type { ProcessInfo } from '../../proc/task.js';
import { takeTurns } from '../../yield-to-loop.js';
import type { CriuDumpOptions } from '../../criu/index.js';
import { pause } from '../../when-aborted.js';
import { findOutsideFiles, placesOf, type TreePlace } from '../warnings/find-outside-files.js';
import { locksOnMappedFiles } from '../warnings/locks-on-mapped-files.js';
import { unusualState, usualState, type TaskState } from '../warnings/task-state.js';
import { warning, type Warning } from '../warnings/warning.js';
import { filesBehind, openForWriting, sharedWritableMappings, type FileInUse } from './files-in-use.js';

/** What is checkpointed. A plain object: a runtime can build one by hand. */
export interface Target {
  /** The root of the process tree. */
  pid: number;
  /** Directory of its freezer cgroup. Default: found from /proc/PID/cgroup. */
  cgroup?: string;
  /** Which freezer, where the process is in a cgroup of both (hybrid layout). */
  cgroupVersion?: 1 | 2;
  /** Move the tree into a cgroup of its own for the checkpoint, and back. Default false: such a target is refused. */
  adopt?: boolean;
  /** File trees, or single files, that go into the archive. */
  files?: FileTree[];
  /** CRIU options over the ones that Stillframe chooses. */
  criu?: CriuDumpOptions;
  /** For those who make targets of something larger, such as a container. */
  parts?: TargetParts;
}

export interface FileTree extends Pick<TreeSource, 'layout' | 'exclude' | 'oneFileSystem' | 'filter' | 'mayVanish'> {
  /**
   * Where it is on this machine. It ends in no symbolic link, and leads through none that another user could have put
   * there: else the checkpoint fails with ArchiveError TREE_UNSAFE.
   */
  path: string;
  /** The name it takes in the archive. */
  name: string;
}

/** What a maker of targets adds to a checkpoint. */
export interface TargetParts {
  /** What the manifest says was dumped, over what is said of a process tree; `kind` among it. */
  subject: Record<string, unknown>;
  /** The files among these that a scan meets under other numbers, by those. */
  scannedAs?: (files: readonly FileInUse[], signal?: AbortSignal) => Promise<FilesInUse>;
  /**
   * A path of the target's, of a file that is none of a tree's, as a path of this machine; undefined where CRIU's
   * images hold the file. Default: the path itself.
   */
  onHost?: (path: Buffer) => Buffer | undefined;
  /**
   * Images and files are complete, and the archive is about to be sealed: returns further members. What it puts into
   * the images' directory is archived with them. It runs after the thaw; with `stop` before CRIU ends the tree.
   */
  complete?: (dumped: DumpedTarget) => Promise<ArchiveDocument[]>;
  /** The target is a container, into which commands may be sent (exec, health checks, probes): they are waited for. */
  guests?: boolean;
  /** Others are to be checkpointed in the same instant. */
  together?: Rendezvous;
}

/**
 * Where targets of one instant wait for each other. Each call resolves when every target has got there; a rejection
 * fails the checkpoint.
 */
export interface Rendezvous {
  /** The target could be frozen now: CRIU is ready, and nobody else is in its cgroup. */
  ready(): Promise<void>;
  /** The target is frozen, verified; nothing of it has been dumped. */
  frozen(): Promise<void>;
  /** Memory and files are complete, and the target is still held. */
  dumped(): Promise<void>;
  /** With `stop`: the archive is safe on disk, and the target is about to be ended. */
  sealed(): Promise<void>;
}

export interface DumpedTarget {
  imagesDir: string;
  /** Below the root of a file tree, all that it held; what its filter left out included. */
  livePaths(treeName: string): Iterable<Buffer>;
  /** Appends members without data to a file tree of layout `nested`: marks that whoever unpacks its tar understands. */
  append(treeName: string, entries: readonly Entry[]): void;
}

/**
 * A further regular member: a small one, or a file of this machine of any size, left out where it is none (any more).
 */
export type ArchiveDocument = { name: string; data: Buffer } | { name: string; file: string };

/**
 * The target's freezer, its cgroup checked to hold the tree and nothing else; undefined for a tree that is to be
 * adopted, which has no cgroup of its own yet. Nothing is touched.
 * @throws FreezerError the codes of openFreezer, checkTarget and checkProcess
 */
export async function findFreezer(target: Target, signal?: AbortSignal): Promise<Freezer | undefined> {
  const { pid, cgroup, cgroupVersion, adopt: willAdopt, parts } = target;
  checkProcess(pid);
  if (willAdopt === true) return undefined;
  const freezer = open({ pid, cgroup, cgroupVersion });
  await checkWithoutGuests({ pid, cgroup: freezer.path, guests: parts?.guests === true }, signal);
  return freezer;
}

// A probe takes a tenth of a second as a rule, and a health check a second; longer is somebody's shell.
const GUESTS_PATIENCE_MS = 5000;
const LOOK_MS = 10;

/** `checkTarget`, again and again while only guests are in the way, for a while. */
async function checkWithoutGuests(target: TargetToCheck, signal: AbortSignal | undefined): Promise<void> {
  for (const end = performance.now() + GUESTS_PATIENCE_MS; ; await pause(LOOK_MS, signal)) {
    try {
      checkTarget(target);
      return;
    } catch (error) {
      const isGuest = isFreezerError(error, 'CGROUP_HAS_STRANGERS') && error.facts.guests === true;
      if (!isGuest || performance.now() >= end) throw error;
    }
  }
}

function open({ pid, cgroup, cgroupVersion: version }: Pick<Target, 'pid' | 'cgroup' | 'cgroupVersion'>): Freezer {
  try {
    return openFreezer(cgroup !== undefined ? { cgroup } : { pid, version });
  } catch (error) {
    if (!isFreezerError(error, 'CGROUP_IS_ROOT')) throw error;
    throw new FreezerError('CGROUP_IS_ROOT', { ...error.facts, mayAdopt: true });
  }
}

/** A target in its cgroup, ready to be frozen; leaving its scope gives an adopted tree back. */
export class ReadyTarget implements AsyncDisposable {
  readonly pid: number;
  readonly freezer: Freezer;
  /** Where the tree is at home: its cgroup's name in the hierarchy, before any adoption. */
  readonly home: { version: 1 | 2; name: string };
  readonly files: FileTree[];
  #places: readonly TreePlace[] = [];
  readonly criu: CriuDumpOptions;
  readonly parts: TargetParts;
  readonly #adoption: Adoption | undefined;

  private constructor(target: Target, freezer: Freezer, adoption: Adoption | undefined) {
    this.pid = target.pid;
    this.freezer = freezer;
    this.home = { version: freezer.version, name: adoption?.origin ?? freezer.cgroupName };
    this.files = (target.files ?? []).map((tree) => ({ ...tree, path: resolve(tree.path) }));
    this.criu = target.criu ?? {};
    this.parts = target.parts ?? { subject: {} };
    this.#adoption = adoption;
  }

  /**
   * @param freezer What findFreezer found; without one the tree is adopted.
   * @param watch Told of what an adoption is about to do.
   * @throws FreezerError the codes of adopt
   */
  static async make(
    target: Target,
    freezer: Freezer | undefined,
    watch: Pick<AdoptOptions, 'onMaking' | 'onMade' | 'onHomes'>,
  ): Promise<ReadyTarget> {
    if (freezer !== undefined) return new ReadyTarget(target, freezer, undefined);
    const adoption = await adopt({ pid: target.pid, version: target.cgroupVersion, ...watch });
    try {
      return new ReadyTarget(target, openFreezer({ cgroup: adoption.path }), adoption);
    } catch (error) {
      await adoption.release();
      throw error;
    }
  }

  /**
   * Every task of the tree is in the cgroup and nothing else is: sure only while it is frozen.
   * @param tree As the frozen tree was found: nothing in it can fork.
   */
  members(tree: readonly ProcessInfo[]): CgroupMember[] {
    return checkTarget({ ...this.#toCheck, tree }).members;
  }

  /**
   * Resolves when nobody else is in a container's cgroup, with which the freeze had better not wait. Any other target
   * is not looked at.
   * @throws FreezerError CGROUP_HAS_STRANGERS and the other codes of checkTarget
   */
  async guestsGone(signal: AbortSignal): Promise<void> {
    if (this.parts.guests === true) await checkWithoutGuests(this.#toCheck, signal);
  }

  get #toCheck(): TargetToCheck {
    return { pid: this.pid, cgroup: this.freezer.path, guests: this.parts.guests === true };
  }

  /** What tasks have mapped shared and writable now. */
  mapped(pids: readonly number[], signal?: AbortSignal): Promise<FilesInUse> {
    return this.#behind(sharedWritableMappings(pids), signal);
  }

  /** What tasks have open for writing now. */
  writable(pids: readonly number[], signal?: AbortSignal): Promise<FilesInUse> {
    return this.#behind(openForWriting(pids), signal);
  }

  /** A warning where tasks write to files that the archive does not hold. CRIU's log, at `criuLog`, is none of theirs. */
  outside(pids: readonly number[], criuLog?: string): Warning[] {
    const found = this.#findOutside(pids, criuLog);
    return found.files.length === 0 ? [] : [warning('FILES_NOT_ARCHIVED', found)];
  }

  /**
   * A warning where tasks have state that CRIU does not dump. To be asked before the freeze: it takes a look at each
   * thread.
   */
  async unusual(pids: readonly number[]): Promise<Warning[]> {
    const usual = usualState();
    const states: TaskState[] = [];
    let turn = performance.now();
    for (const pid of pids) {
      states.push(...(await unusualState(pid, usual)));
      turn = await takeTurns(turn);
    }
    return states.length === 0 ? [] : [warning('STATE_LOST', { states })];
  }

  /** A warning where tasks of a container hold locks that its runtime will not restore. To be asked before the freeze. */
  async lostLocks(pids: readonly number[], signal?: AbortSignal): Promise<Warning[]> {
    if (this.parts.guests !== true) return [];
    const locks = await locksOnMappedFiles(pids, signal);
    return locks.length === 0 ? [] : [warning('LOCKS_LOST', { locks, restoredBy: 'runtime' })];
  }

  /** Takes the files that tasks write to now, and that no tree holds, as trees of their own: `files-in-use/N`. */
  async takeFilesInUse(pids: readonly number[], signal?: AbortSignal): Promise<void> {
    await this.locateTrees(signal);
    for (const { path } of this.#findOutside(pids).files) {
      // A path that is not UTF-8 cannot be that of a tree; the warning stays. A file that is deleted meanwhile has no
      // path, and is in CRIU's images.
      if (typeof path === 'string')
        this.files.push({ path, name: `files-in-use/${this.files.length + 1}`, mayVanish: true });
    }
    await this.locateTrees(signal);
  }

  /**
   * Asks for the places of the trees, before `outside` and before the freeze: no file system has to answer for that
   * while the tree is frozen.
   */
  async locateTrees(signal?: AbortSignal): Promise<void> {
    this.#places = await placesOf(this.files, signal);
  }

  #findOutside(pids: readonly number[], criuLog?: string): ReturnType<typeof findOutsideFiles> {
    const except = criuLog === undefined ? undefined : statSync(criuLog, { bigint: true, throwIfNoEntry: false });
    return findOutsideFiles(pids, { places: this.#places, onHost: this.parts.onHost, except });
  }

  async #behind(links: Iterable<string>, signal: AbortSignal | undefined): Promise<FilesInUse> {
    const files = await filesBehind(links, signal);
    const others = await this.parts.scannedAs?.(files, signal);
    return new Set([...files.map(({ dev, ino }) => `${dev}:${ino}`), ...(others ?? [])]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#adoption?.release();
  }
}
