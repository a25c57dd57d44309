import { basename, join, dirname, resolve } from 'node:path';
import type { NewTreeWatch, PlannedReplacement, PlannedTree, ReplacementWatch } from '../../archive/index.js';
import type { ProcessHome } from '../../cgroup/index.js';
import { identify, type ProcessId } from '../../proc/identity.js';
import type { ProcessEnd } from '../../process.js';
import { whileWanted } from '../../while-wanted.js';
import { GuardianProcess } from './guardian-process.js';
import type { JournalCgroup, JournalEntry, JournalReplacement, JournalRestore } from './journal-entry.js';
import type { Journal } from './journal.js';

// native/guardian/guardian.h. Whoever is not told goes where the tree's root goes.
const MAX_HOMES = 512;

export interface GuardianOptions {
  /** The lock that is held: everything said to the guardian is in it too. */
  journal: Journal;
  /** Directory of a cgroup (not the target's) to put the guardian into. Default: it stays in the caller's. */
  placeGuardianIn?: string | undefined;
  /**
   * How long a CRIU that we leave behind may take to undo its work before it is killed, in milliseconds. Default
   * 10,000.
   */
  criuTimeoutMs?: number;
  /** How long the guardian tries to thaw, in milliseconds. Default 30,000. */
  thawTimeoutMs?: number;
  signal?: AbortSignal | undefined;
}

/**
 * A process that puts everything right when this one dies, however it dies: it waits for CRIU's end, thaws the
 * cgroup (or leaves it frozen, when it was found so), gives an adopted tree back, and removes our temporary
 * files. Armed before anything is touched, disarmed when nothing is left to put right.
 */
export class Guardian implements AsyncDisposable {
  readonly #process: GuardianProcess;
  readonly #journal: Journal;

  private constructor(process: GuardianProcess, journal: Journal) {
    this.#process = process;
    this.#journal = journal;
  }

  /**
   * Resolves when the guardian runs and has taken in what it has to know.
   * @throws CheckpointError GUARDIAN_MISSING, GUARDIAN_LOST, GUARDIAN_REFUSED (`placeGuardianIn` does not exist, ...);
   * the signal's reason
   */
  static async arm(options: GuardianOptions): Promise<Guardian> {
    const { journal, placeGuardianIn, criuTimeoutMs = 10_000, thawTimeoutMs = 30_000, signal } = options;
    signal?.throwIfAborted();
    const guardian = GuardianProcess.start();
    const { cgroup, removals } = journal.entry;
    try {
      const records = [
        `owner ${process.pid}`,
        ...(placeGuardianIn === undefined ? [] : [`place ${resolve(placeGuardianIn)}`]),
        `bounds ${Math.ceil(criuTimeoutMs)} ${Math.ceil(thawTimeoutMs)}`,
        `log ${logPath(journal)}`,
        `journal ${journal.path}`,
        ...(cgroup === undefined ? [] : cgroupRecords(cgroup)),
        ...removals.map((path) => `remove ${path}`),
      ];
      await whileWanted(guardian.ask(records, 'ready?'), signal);
    } catch (error) {
      guardian.kill();
      throw error;
    }
    const identity = identify(guardian.pid);
    if (identity !== undefined) journal.update({ guardian: identity });
    return new Guardian(guardian, journal);
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** How it ended, when it did without being told to. */
  get lost(): ProcessEnd | undefined {
    return this.#process.end;
  }

  /**
   * A cgroup for an adopted tree; say so before it is made. While `keepCgroup` has not been called nothing is in it.
   */
  willMakeCgroup(path: string): void {
    this.#journal.update({ newCgroup: path });
    this.#process.say(`new-cgroup ${path}`);
  }

  /** Processes of an adopted tree that do not go back where its root goes; say so before they are moved. */
  keepHomes(homes: ProcessHome[]): void {
    const { cgroup } = this.#journal.entry;
    if (cgroup === undefined) return;
    const added = homes
      .map(({ pid, startTime, directory }) => ({ pid, startTime: String(startTime), path: directory }))
      .slice(0, MAX_HOMES - (cgroup.homes?.length ?? 0));
    this.#journal.update({ cgroup: { ...cgroup, homes: [...(cgroup.homes ?? []), ...added] } });
    this.#process.say(...added.map(homeRecord));
  }

  /**
   * The cgroup to keep, for a guardian that was armed before it was known (it was adopted since).
   * The journal has it already: see `lockCgroup`.
   */
  async keepCgroup(): Promise<void> {
    const { cgroup } = this.#journal.entry;
    if (cgroup !== undefined) await this.#process.ask(cgroupRecords(cgroup), 'ready?');
  }

  /**
   * A directory or file that is ours, to be removed if we die. Say so before it is made: what does not exist is
   * passed over. Only names that begin with a dot and contain `stillframe-` are accepted.
   */
  willMake(path: string): void {
    const absolute = resolve(path);
    this.#journal.update({ removals: [...this.#journal.entry.removals, absolute] });
    this.#process.say(`remove ${absolute}`);
  }

  /** It has its final name, or is removed. */
  forget(path: string): void {
    const absolute = resolve(path);
    this.#journal.update({ removals: this.#journal.entry.removals.filter((other) => other !== absolute) });
    this.#process.say(`forget ${absolute}`);
  }

  /**
   * A file or directory that a restore is about to make under a name that nothing has. If we die it is removed; a
   * directory, when it is empty then: see `knowDestination`.
   */
  willMakeNew(path: string): void {
    this.#restored(({ newNames }) => ({ newNames: [...newNames, path] }), `new ${path}`);
  }

  /** An empty directory that a restore extracts into: it is emptied if we die. Resolves when the guardian holds it. */
  async knowDestination(path: string, { dev, ino }: { dev: bigint; ino: bigint }): Promise<void> {
    const destination = { path, device: String(dev), inode: String(ino) };
    this.#restored(({ destinations }) => ({ destinations: [...destinations, destination] }));
    await this.#process.ask([destinationRecord(destination)], 'ready?');
  }

  /**
   * A hidden tree that is about to get a name that nothing has: there, too, it is removed if we die. Resolves when the
   * guardian holds it.
   */
  async willPlace({ path, hiddenPath, directory }: PlannedTree): Promise<void> {
    const destination = directory === undefined ? undefined : { path, ...journalId(directory) };
    const added = destination === undefined ? [] : [destination];
    this.#restored(({ newNames, destinations }) => ({
      newNames: [...newNames, path],
      destinations: [...destinations, ...added],
    }));
    // It is held by what it is called now.
    const records = added.map((known) => destinationRecord({ ...known, path: hiddenPath }));
    await this.#process.ask([`new ${path}`, ...records], 'ready?');
  }

  /**
   * Files that others are about to take the place of. While the restore is not finished the old ones are put back if we
   * die; from then on they are kept or removed, as it would have been done. Resolves when the guardian knows.
   */
  async willReplace(planned: PlannedReplacement): Promise<void> {
    const { path, hiddenPath, keptName, fresh, old } = planned;
    const replacement: JournalReplacement = {
      path,
      hidden: basename(hiddenPath),
      ...(keptName === undefined ? {} : { keptName }),
      fresh: journalId(fresh),
      old: journalId(old),
    };
    // In one step: the hidden directory, about to hold the old files, is not to be removed any more.
    const { removals, replacements = [] } = this.#journal.entry;
    this.#journal.update({
      removals: removals.filter((other) => other !== hiddenPath),
      replacements: [...replacements, replacement],
    });
    await this.#process.ask([replacementRecord(replacement)], 'ready?');
  }

  /** A process that a restore has made, not yet reaped: it ends with all its children if we die. */
  knowTree(pid: number): void {
    const tree = identify(pid);
    const known = this.#journal.entry.restore?.trees ?? [];
    if (tree === undefined || known.some(({ pid, startTime }) => pid === tree.pid && startTime === tree.startTime))
      return;
    this.#restored(({ trees }) => ({ trees: [...trees, tree] }), treeRecord(tree));
  }

  /**
   * Free pids that the restore is about to take: who has them after us, is in its cgroup and younger than its CRIU, is
   * of its tree.
   */
  willTakePids(pids: readonly number[]): void {
    this.#restored(() => ({ pids: [...pids] }), ...pidRecords(pids));
  }

  /**
   * The cgroup that a restore puts its tree into, which is not frozen: it is thawed if we die while the window is open.
   */
  async knowRestoreCgroup({ version, path }: { version: 1 | 2; path: string }): Promise<void> {
    this.#restored(() => ({ cgroup: { version, path } }));
    await this.#process.ask([`cgroup ${version} ${path}`], 'ready?');
  }

  /** The outermost cgroup that a restore is about to make; nobody else's is in it. */
  willMakeRestoreCgroup(path: string): void {
    this.#restored(() => ({ madeCgroup: path }), `made-cgroup ${path}`);
  }

  /**
   * A file that the container runtime, which may outlive us, writes when it has finished the restore: then all that the
   * restore has made stays.
   */
  willBeFinishedBy(path: string): void {
    this.#restored(() => ({ finishedBy: path }), `finished-by ${path}`);
  }

  /** The restore is finished: what it made stays, whatever becomes of us. */
  keepRestored(): void {
    const { restore, criu: _, ...entry } = this.#journal.entry;
    this.#journal.replace({
      ...entry,
      window: 'closed',
      ...(restore === undefined ? {} : { restored: restore.archivePath }),
    });
    this.#process.say('keep', 'window closed');
  }

  /**
   * A copy is restored, and runs. The guardian outlives this process from here on, and does with the copy's end what it
   * would have done with ours: it removes the copy's directory and cgroup, and the journal.
   */
  keepCopy(init: ProcessId): void {
    const { restore, criu: _, ...entry } = this.#journal.entry;
    if (restore?.madeCgroup === undefined) return;
    this.#journal.replace({
      ...entry,
      window: 'closed',
      restored: restore.archivePath,
      copy: { init, cgroup: restore.madeCgroup },
    });
    this.#process.say(`mind ${init.pid} ${init.startTime}`, 'window closed');
  }

  #restored(change: (restore: JournalRestore) => Partial<JournalRestore>, ...records: string[]): void {
    const { restore } = this.#journal.entry;
    if (restore === undefined) return;
    this.#journal.update({ restore: { ...restore, ...change(restore) } });
    if (records.length > 0) this.#process.say(...records);
  }

  /** Told of what a restore extracts: see ExtractOptions. */
  get destinations(): {
    willMake: (path: string) => void;
    opened: (path: string, id: { dev: bigint; ino: bigint }) => Promise<void>;
  } {
    return {
      willMake: (path) => this.willMakeNew(path),
      opened: (path, id) => this.knowDestination(path, id),
    };
  }

  /** Told of what takes the place of what: see ExtractOptions. */
  get replacements(): ReplacementWatch {
    return { hidden: this.hiddenNames, willReplace: (planned) => this.willReplace(planned) };
  }

  /** Told of trees that are made hidden. */
  get newTrees(): NewTreeWatch {
    return { hidden: this.hiddenNames, willPlace: (planned) => this.willPlace(planned) };
  }

  /** Told of hidden directories and files. */
  get hiddenNames(): { willMake: (path: string) => void; removed: (path: string) => void } {
    return { willMake: (path) => this.willMake(path), removed: (path) => this.forget(path) };
  }

  /** The CRIU that is about to work on the tree: our child, not yet reaped. */
  knowCriu(pid: number): void {
    const criu = identify(pid);
    if (criu === undefined) return;
    this.#journal.update({ criu });
    this.#process.say(`criu ${criu.pid} ${criu.startTime}`);
  }

  /**
   * Before the first write to the freezer. Resolves when the guardian, alive at this moment, knows.
   * @param foundFrozen The cgroup was self-frozen before us, and has to end so.
   * @throws CheckpointError GUARDIAN_LOST: do not freeze; GUARDIAN_REFUSED: a path said before is not removable
   */
  async openWindow(foundFrozen: boolean): Promise<void> {
    this.#journal.update({ window: 'open', windowSince: new Date().toISOString(), foundFrozen });
    try {
      await this.#process.ask([`found ${foundFrozen ? 'frozen' : 'thawed'}`], 'window open');
    } catch (error) {
      this.closeWindow(); // nothing will be frozen
      throw error;
    }
  }

  /**
   * Lets the guardian close the window at that moment of `performance.now()`, in milliseconds, although we live: what
   * runs in this process meanwhile may hold the event loop, or somebody may have stopped us. Undefined: no longer.
   * Resolves when the guardian knows.
   * @throws CheckpointError GUARDIAN_LOST
   */
  async thawBy(endsAtMs: number | undefined): Promise<void> {
    // Both clocks are CLOCK_MONOTONIC; the other one's zero is the guardian's, too.
    const ms =
      endsAtMs === undefined ? 0 : Math.ceil(Number(process.hrtime.bigint()) / 1e6 + endsAtMs - performance.now());
    await this.#process.ask([`thaw-by ${ms}`], 'ready?');
  }

  /** After the verified thaw, and after CRIU's end: a CRIU that is still alive may write the freeze back. */
  closeWindow(): void {
    this.#journal.update({ window: 'closed' });
    this.#process.say('window closed');
  }

  /**
   * Nothing is left to put right. Resolves when the guardian's process has ended.
   * @returns `lost` when it had ended before; `took over` when the window was never closed: a thaw failed, so the
   * guardian does what it is there for. It tries for longer, and keeps the journal for `recover` when it fails too.
   */
  async disarm(): Promise<'disarmed' | 'lost' | 'took over'> {
    if (this.#process.end !== undefined) return 'lost';
    if (this.#journal.entry.copy !== undefined) {
      this.#process.leave();
      return 'disarmed';
    }
    if (this.#journal.entry.window === 'open') {
      await this.#process.abandon();
      return 'took over';
    }
    this.#process.say('disarm');
    const { exitCode } = await this.#process.awaitEnd();
    return exitCode === 0 ? 'disarmed' : 'lost';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.disarm();
  }
}

export function cgroupRecords({ version, path, adoptedFrom, homes = [] }: JournalCgroup): string[] {
  return [
    `cgroup ${version} ${path}`,
    ...(adoptedFrom === undefined ? [] : [`home ${adoptedFrom}`]),
    ...homes.map(homeRecord),
  ];
}

/** What dies with a restore. */
export function treeRecords({ trees, pids, cgroup, madeCgroup, finishedBy }: JournalRestore): string[] {
  return [
    ...trees.map(treeRecord),
    ...pidRecords(pids),
    ...(cgroup === undefined ? [] : [`cgroup ${cgroup.version} ${cgroup.path}`]),
    ...(madeCgroup === undefined ? [] : [`made-cgroup ${madeCgroup}`]),
    ...(finishedBy === undefined ? [] : [`finished-by ${finishedBy}`]),
  ];
}

/** What a restore has extracted. */
export function destinationRecords({ newNames, destinations }: JournalRestore): string[] {
  return [...newNames.map((path) => `new ${path}`), ...destinations.map(destinationRecord)];
}

/** What a restore has put other files in the place of. Of a copy that has ended nothing is kept. */
export function replacementRecords({ replacements = [], restored, copy }: JournalEntry): string[] {
  const isKept = restored !== undefined && copy === undefined;
  return [...replacements.map(replacementRecord), ...(isKept ? ['keep'] : [])];
}

/** A record has to fit the guardian's buffer. */
function pidRecords(pids: readonly number[]): string[] {
  const records: string[] = [];
  for (let from = 0; from < pids.length; from += 500) records.push(`expect ${pids.slice(from, from + 500).join(' ')}`);
  return records;
}

function treeRecord({ pid, startTime }: ProcessId): string {
  return `tree ${pid} ${startTime}`;
}

function destinationRecord({ path, device, inode }: JournalRestore['destinations'][number]): string {
  return `destination ${device} ${inode} ${path}`;
}

function replacementRecord({ path, hidden, keptName = '', fresh, old }: JournalReplacement): string {
  const ids = [fresh.device, fresh.inode, old.device, old.inode].join(' ');
  return `replace ${ids} ${hidden}/${keptName}/${path}`;
}

function journalId({ dev, ino }: { dev: bigint; ino: bigint }): JournalReplacement['old'] {
  return { device: String(dev), inode: String(ino) };
}

function homeRecord({ pid, startTime, path }: NonNullable<JournalCgroup['homes']>[number]): string {
  return `home-of ${pid} ${startTime} ${path}`;
}

/** In the state directory, beside the journals. */
export function logPath(journal: Journal): string {
  return join(dirname(journal.path), 'guardian.log');
}
