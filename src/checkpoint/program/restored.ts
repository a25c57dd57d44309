/** A restored tree gets its name again. */
import { rm } from 'node:fs/promises';
import { basename } from 'node:path';
import { openFreezer } from '../../cgroup/index.js';
import type { DumpedFile } from '../../criu/index.js';
import { identify } from '../../proc/identity.js';
import { bad } from '../base/check-option.js';
import type { Subject } from '../base/recorded-target.js';
import type { Undo } from '../restore/undo.js';
import { NameClaim } from './claim.js';
import { remakeLog } from './log-file.js';
import { isProgramName, NAME_RULE, type ProgramOrigin, type ProgramTree } from './record.js';

export interface NameWish {
  /** The name that was asked for. */
  name: string | undefined;
  stateDir: string;
  signal: AbortSignal | undefined;
}

/** The name of a tree that is being restored. Leaving its scope gives it back, unless the tree has it by then. */
export class RestoredName implements Disposable {
  readonly #claim: NameClaim;
  readonly #origin: ProgramOrigin;

  private constructor(claim: NameClaim, origin: ProgramOrigin) {
    this.#claim = claim;
    this.#origin = origin;
  }

  /**
   * @param places Where each file tree of the archive goes.
   * @returns undefined for a tree without a name
   * @throws CheckpointError BAD_OPTION, NAME_TAKEN; the signal's reason
   */
  static async take(
    { program }: Subject,
    places: ReadonlyMap<string, string>,
    { name = program?.name, stateDir, signal }: NameWish,
  ): Promise<RestoredName | undefined> {
    if (name === undefined) return undefined;
    if (!isProgramName(name)) bad('name', name, NAME_RULE);
    const files: ProgramTree[] = (program?.files ?? namedTrees(places)).map((tree) => ({
      name: tree.name,
      path: places.get(tree.name) ?? tree.path,
    }));
    const origin = { name, files, command: program?.command ?? [], logPath: program?.logPath };
    return new RestoredName(await NameClaim.take(stateDir, origin, signal), origin);
  }

  get name(): string {
    return this.#origin.name;
  }

  /**
   * CRIU opens the log by its path, where the tree had it open.
   * @throws CheckpointError LOG_UNUSABLE
   */
  async prepareLog(files: readonly DumpedFile[], undo: Undo): Promise<void> {
    const { logPath } = this.#origin;
    if (logPath === undefined || !files.some(({ path }) => path.equals(Buffer.from(logPath)))) return;
    if (await remakeLog(logPath)) undo.push(() => rm(logPath, { force: true }));
  }

  /**
   * The tree runs.
   * @param made The cgroup was made for it.
   */
  give(pid: number, cgroup: string | undefined, made: boolean): void {
    const root = identify(pid);
    if (root === undefined) return; // it has ended already
    const isOurs = made || (cgroup !== undefined && basename(cgroup).startsWith('stillframe-'));
    this.#claim.register(root, {
      cgroup:
        cgroup === undefined ? undefined : { version: openFreezer({ cgroup }).version, path: cgroup, made: isOurs },
    });
    this.#claim.keep();
  }

  [Symbol.dispose](): void {
    this.#claim[Symbol.dispose]();
  }
}

/** Those that a checkpoint was told of, not what it found in use. */
function namedTrees(places: ReadonlyMap<string, string>): ProgramTree[] {
  return [...places].filter(([name]) => !name.startsWith('files-in-use/')).map(([name, path]) => ({ name, path }));
}
