/**
 * One small file for each checkpoint under way, in a directory that only root can enter. It is the lock (see
 * lock.ts) and what `recover` reads when owner and guardian are both dead. The owner is part of the file's
 * name, so that taking over a dead owner's journal is one rename, which only one process can win.
 */
import { randomUUID } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { bootId, identify, isRunning, type ProcessId } from '../../proc/identity.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { readEntry, type JournalCgroup, type JournalClaim, type JournalEntry } from './journal-entry.js';

export interface FoundJournal {
  path: string;
  owner: ProcessId;
  entry: JournalEntry;
}

/** What stands under a journal's name and is none that this version understands. */
export interface UnknownJournal {
  path: string;
  /** By its name. */
  owner: ProcessId;
  /** As in "FILE ...". */
  why: string;
  claim: JournalClaim | undefined;
}

/**
 * Makes the state directory when it is missing, mode 0700.
 * @throws CheckpointError STATE_DIR_UNSAFE when it is a link, somebody else's, or open to others
 */
export function prepareStateDir(stateDir: string): void {
  try {
    mkdirSync(stateDir, { mode: 0o700 });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST')
      throw new CheckpointError('STATE_DIR_UNSAFE', { stateDir, why: 'cannot be made', cause });
  }
  checkStateDir(stateDir);
}

/**
 * What stands in it is believed, and acted on as root.
 * @throws CheckpointError STATE_DIR_UNSAFE, NOT_ROOT; a missing one is fine: it holds nothing
 */
export function checkStateDir(stateDir: string): void {
  const stat = lstatSync(stateDir, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isDirectory()) throw new CheckpointError('STATE_DIR_UNSAFE', { stateDir, why: 'is not a directory' });
  const uid = process.geteuid?.() ?? 0;
  if (uid !== 0 && stat.uid === 0)
    throw new CheckpointError('NOT_ROOT', { action: `what is done in ${stateDir}`, uid });
  if (stat.uid !== uid) throw new CheckpointError('STATE_DIR_UNSAFE', { stateDir, why: `belongs to uid ${stat.uid}` });
  if ((stat.mode & 0o077) !== 0)
    throw new CheckpointError('STATE_DIR_UNSAFE', {
      stateDir,
      why: `has mode ${(stat.mode & 0o777).toString(8)}, which lets others in`,
    });
}

/** What a journal is begun for. */
export type JournalWork =
  | { target: ProcessId; cgroup?: JournalCgroup | undefined }
  | { target?: undefined; cgroup: JournalCgroup }
  | { restoreOf: string }
  | { podDirectory: string };

/** What a journal says first. */
export function newEntry(work: JournalWork): JournalEntry {
  return {
    format: 1,
    id: randomUUID(),
    lock: 'waiting',
    since: new Date().toISOString(),
    ...here(),
    ...('restoreOf' in work
      ? { restore: { archivePath: work.restoreOf, trees: [], pids: [], newNames: [], destinations: [] } }
      : 'podDirectory' in work
        ? work
        : {
            ...(work.target === undefined ? {} : { target: work.target }),
            ...(work.cgroup === undefined ? {} : { cgroup: work.cgroup }),
          }),
    window: 'never',
    foundFrozen: false,
    removals: [],
  };
}

/** A journal of this process. Each change is on the file system when the call returns, whole or not at all. */
export class Journal implements Disposable {
  readonly path: string;
  #entry: JournalEntry;

  private constructor(path: string, entry: JournalEntry) {
    this.path = path;
    this.#entry = entry;
  }

  get entry(): Readonly<JournalEntry> {
    return this.#entry;
  }

  /** @throws CheckpointError STATE_DIR_UNSAFE */
  static create(stateDir: string, work: JournalWork): Journal {
    prepareStateDir(stateDir);
    const entry = newEntry(work);
    const journal = new Journal(join(stateDir, nameFor(entry.id, thisProcess())), entry);
    journal.update({});
    return journal;
  }

  /** Makes a dead owner's journal ours. `undefined` when another process was faster. */
  static claim(stateDir: string, found: FoundJournal): Journal | undefined {
    const path = join(stateDir, nameFor(found.entry.id, thisProcess()));
    try {
      renameSync(found.path, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    return new Journal(path, found.entry);
  }

  /** Makes it the dead owner's again, so that another try can be made. */
  giveBack(found: FoundJournal): void {
    renameSync(this.path, found.path);
  }

  update(changes: Partial<JournalEntry>): void {
    this.replace({ ...this.#entry, ...changes });
  }

  replace(entry: JournalEntry): void {
    this.#entry = entry;
    const fresh = `${this.path}${freshSuffix()}`;
    writeFileSync(fresh, `${JSON.stringify(this.#entry)}\n`, { mode: 0o600 });
    renameSync(fresh, this.path);
  }

  remove(): void {
    rmSync(this.path, { force: true });
  }

  /** That of a copy stays for as long as the copy runs. */
  [Symbol.dispose](): void {
    if (this.#entry.copy === undefined) this.remove();
  }
}

/**
 * Every journal. What a process of this pid namespace that died in the middle of a write left is removed on the way; of
 * another namespace it cannot be told whether the process has died.
 * @param tidy False: nothing is removed.
 */
export function listJournals(stateDir: string, tidy = true): { found: FoundJournal[]; unknown: UnknownJournal[] } {
  for (;;) {
    const listed = tryListJournals(stateDir, tidy);
    if (listed !== undefined) return listed;
  }
}

/** Those that this version understands. */
export function readJournals(stateDir: string): FoundJournal[] {
  return listJournals(stateDir).found;
}

/**
 * `undefined` when one vanished between listing and reading: it may stand under a new name, claimed by another process.
 */
function tryListJournals(stateDir: string, tidy: boolean): ReturnType<typeof listJournals> | undefined {
  const found: FoundJournal[] = [];
  const unknown: UnknownJournal[] = [];
  for (const name of namesIn(stateDir)) {
    const named = parseName(name);
    if (named === undefined) continue;
    const { id, owner, freshOf } = named;
    const path = join(stateDir, name);
    if (freshOf !== undefined) {
      if (tidy && freshOf === freshSuffix() && !isRunning(owner)) removeFile(path);
      continue;
    }
    const content = readEntry(path, id);
    if (content === undefined) return undefined;
    if (content.entry === undefined) unknown.push({ path, owner, ...content });
    else found.push({ path, owner, entry: content.entry });
  }
  return { found, unknown };
}

/** Its owner or its guardian may be at work, as far as that can be read. */
export function mayBeAlive({ owner, claim }: UnknownJournal): boolean {
  return claim === undefined ? isRunning(owner) : !isAbandoned({ owner, entry: claim });
}

/**
 * Owner dead and guardian dead: nobody will put right what it left. A process of another namespace counts as alive; and
 * a copy that runs has nothing to be put right.
 */
export function isAbandoned({ owner, entry }: { owner: ProcessId; entry: JournalClaim }): boolean {
  const { bootId, pidNamespace } = here();
  if (entry.bootId !== bootId) return true;
  if (entry.pidNamespace !== pidNamespace) return false;
  const { guardian, copy } = entry;
  return [owner, guardian, copy?.init].every((process) => process === undefined || !isRunning(process));
}

/**
 * Its guardian is putting things right, or has done so since the journal was read. A process of another namespace
 * counts as alive.
 */
export function isOwnerDead({ owner, entry }: FoundJournal): boolean {
  return entry.pidNamespace === here().pidNamespace && !isRunning(owner);
}

/** Abandoned before anything was touched: a guardian is armed before the first thing is. */
export function isEmpty({ entry }: FoundJournal): boolean {
  return (
    entry.guardian === undefined &&
    entry.window === 'never' &&
    entry.newCgroup === undefined &&
    entry.removals.length === 0
  );
}

export function isOfThisBoot(entry: JournalEntry): boolean {
  return entry.bootId === here().bootId;
}

/**
 * What a journal is written under before it takes its place. The pid namespace is in the name, since nothing need be in
 * the file yet: without it, the pid in the name would be looked up in the wrong namespace, and the file taken from
 * under a living process.
 */
function freshSuffix(): string {
  return `.${here().pidNamespace.replace(/\D/g, '')}.new`;
}

function nameFor(id: string, owner: ProcessId): string {
  return `${id}@${owner.pid}-${owner.startTime}.json`;
}

/** `freshOf`: the suffix of a file that has not taken its place yet. */
function parseName(name: string): { id: string; owner: ProcessId; freshOf: string | undefined } | undefined {
  const [, id, pid, startTime, freshOf] =
    /^([0-9a-f-]{36})@(\d{1,10})-(\d{1,20})\.json(\.\d{1,20}\.new)?$/.exec(name) ?? [];
  if (id === undefined || startTime === undefined) return undefined;
  return { id, owner: { pid: Number(pid), startTime }, freshOf };
}

/** What is no file is none of ours, and stays. */
function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!['ENOENT', 'EISDIR', 'EPERM'].includes(String((error as NodeJS.ErrnoException).code))) throw error;
  }
}

function namesIn(stateDir: string): string[] {
  try {
    return readdirSync(stateDir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function thisProcess(): ProcessId {
  return identify(process.pid) as ProcessId;
}

let place: Pick<JournalEntry, 'bootId' | 'pidNamespace'> | undefined;

/** Which boot this is, and which pid namespace: without them a pid and its start time name no process. */
export function here(): Pick<JournalEntry, 'bootId' | 'pidNamespace'> {
  return (place ??= {
    bootId: bootId(),
    pidNamespace: readlinkSync('/proc/self/ns/pid'),
  });
}
