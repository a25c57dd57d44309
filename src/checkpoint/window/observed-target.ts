import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { FilesInUse } from '../../archive/index.js';
import type { CriuDumpOptions } from '../../criu/index.js';
import { takeTurns } from '../../yield-to-loop.js';
import { findOutsideFiles, placesOf, type TreeLocation } from '../warnings/find-outside-files.js';
import type { ProgramOrigin } from '../program/record.js';
import { locksOnMappedFiles } from '../warnings/locks-on-mapped-files.js';
import { unusualState, usualState, type TaskState } from '../warnings/task-state.js';
import { warning, type Warning } from '../warnings/warning.js';
import { filesBehind, openForWriting, sharedWritableMappings } from './files-in-use.js';
import type { FileTree, Target, TargetParts } from './target.js';

/** A thread has a few, a tree perhaps a hundred thousand threads: the manifest has to hold the list. */
const MAX_STATES = 1000;

/** What can be learnt of a target without touching it. */
export class ObservedTarget {
  readonly pid: number;
  readonly files: FileTree[];
  readonly criu: CriuDumpOptions;
  readonly parts: TargetParts;
  readonly program: ProgramOrigin | undefined;
  #places: readonly TreeLocation[] = [];

  constructor(target: Target) {
    this.pid = target.pid;
    this.files = (target.files ?? []).map((tree) => ({ ...tree, path: resolve(tree.path) }));
    this.criu = target.criu ?? {};
    this.parts = target.parts ?? { subject: {} };
    this.program = target.program;
  }

  /** What tasks have mapped shared and writable now. */
  mapped(pids: readonly number[], signal?: AbortSignal): Promise<FilesInUse> {
    return this.#behind(sharedWritableMappings(pids), signal);
  }

  /** What tasks have open for writing now. */
  writable(pids: readonly number[], signal?: AbortSignal): Promise<FilesInUse> {
    return this.#behind(openForWriting(pids), signal);
  }

  /**
   * A warning where tasks write to files that the archive does not hold. CRIU's log, at `criuLog`, is none of theirs.
   */
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
    let more = 0;
    let turn = performance.now();
    for (const pid of pids) {
      const found = await unusualState(pid, usual);
      const room = MAX_STATES - states.length;
      states.push(...found.slice(0, room));
      more += Math.max(0, found.length - room);
      turn = await takeTurns(turn);
    }
    return states.length === 0 ? [] : [warning('STATE_LOST', { states, more })];
  }

  /**
   * A warning where tasks of a container hold locks that its runtime will not restore. To be asked before the freeze.
   */
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
    const appended = this.program?.logPath;
    return findOutsideFiles(pids, { places: this.#places, onHost: this.parts.onHost, except, appended });
  }

  async #behind(links: Iterable<string>, signal: AbortSignal | undefined): Promise<FilesInUse> {
    const files = await filesBehind(links, signal);
    const others = await this.parts.scannedAs?.(files, signal);
    return new Set([...files.map(({ dev, ino }) => `${dev}:${ino}`), ...(others ?? [])]);
  }
}
