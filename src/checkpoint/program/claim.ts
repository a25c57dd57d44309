/**
 * A name for one program at a time. As with journals (guardian/lock.ts), each claimant publishes its own record first
 * and looks at the others after: of two that see each other waiting, the one whose file sorts first goes on.
 */
import { basename } from 'node:path';
import { identify, type ProcessId } from '../../proc/identity.js';
import { pause } from '../../when-aborted.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { here } from '../guardian/journal.js';
import {
  isHolderAlive,
  prepareNames,
  readNames,
  recordPath,
  removeRecord,
  writeRecord,
  type FoundName,
} from './names.js';
import type { ProgramOrigin, ProgramRecord } from './record.js';

const POLL_MS = 5;

/** What is known once the program exists. */
export type ProgramPlace = Pick<ProgramRecord, 'cgroup' | 'files' | 'logPath'>;

/** A name that nobody else can take. Leaving its scope gives it back, unless a program has it by then. */
export class NameClaim implements Disposable {
  readonly #stateDir: string;
  #path: string;
  #record: ProgramRecord;
  /** A record at `#path` is ours to remove. */
  #isPublished = false;

  private constructor(stateDir: string, origin: ProgramOrigin) {
    this.#stateDir = stateDir;
    this.#path = recordPath(stateDir, origin.name, identify(process.pid) as ProcessId);
    this.#record = {
      ...{ format: 1, state: 'waiting', since: new Date().toISOString(), cgroup: undefined },
      ...here(),
      ...origin,
    };
  }

  get name(): string {
    return this.#record.name;
  }

  /** Where the record is: of the program, once it is registered. */
  get path(): string {
    return this.#path;
  }

  /** @throws CheckpointError NAME_TAKEN, STATE_DIR_UNSAFE; the signal's reason */
  static async take(stateDir: string, origin: ProgramOrigin, signal?: AbortSignal): Promise<NameClaim> {
    prepareNames(stateDir);
    const claim = new NameClaim(stateDir, origin);
    try {
      await claim.#win(signal);
      return claim;
    } catch (error) {
      claim[Symbol.dispose]();
      throw error;
    }
  }

  /** The program has its name from now on. @throws errno errors */
  register(root: ProcessId, place: Partial<ProgramPlace>): void {
    const claimed = this.#path;
    this.#path = recordPath(this.#stateDir, this.name, root);
    this.#record = { ...this.#record, ...place, state: 'running', since: new Date().toISOString() };
    writeRecord(this.#path, this.#record);
    removeRecord({ path: claimed });
  }

  /** It runs: the name stays with it. */
  keep(): void {
    this.#isPublished = false;
  }

  [Symbol.dispose](): void {
    if (this.#isPublished) removeRecord({ path: this.#path });
  }

  async #win(signal: AbortSignal | undefined): Promise<void> {
    const file = basename(this.#path);
    // Of another claim of this very process, which would have the same path.
    const [own] = this.#others(true);
    if (own !== undefined) throw taken(this.name, own);
    this.#isPublished = true;
    writeRecord(this.#path, this.#record);
    for (;;) {
      const others = this.#others(false);
      for (const other of others.filter((each) => !isHolderAlive(each))) removeRecord(other);
      const living = others.filter(isHolderAlive);
      if (living.length === 0) break;
      const holder = living.find(({ record, path }) => record?.state !== 'waiting' || basename(path) < file);
      if (holder !== undefined) throw taken(this.name, holder);
      await pause(POLL_MS, signal);
    }
    this.#record = { ...this.#record, state: 'held' };
    writeRecord(this.#path, this.#record);
  }

  #others(own: boolean): FoundName[] {
    return readNames(this.#stateDir).filter(({ name, path }) => name === this.name && (path === this.#path) === own);
  }
}

function taken(name: string, { holder, record }: FoundName): CheckpointError<'NAME_TAKEN'> {
  return new CheckpointError('NAME_TAKEN', { name, pid: holder.pid, since: record?.since });
}
