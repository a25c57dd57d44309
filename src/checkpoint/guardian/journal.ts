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
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { identify, isRunning, type ProcessId } from '../../proc/identity.js';
import { CheckpointError } from '../base/checkpoint-error.js';

export const STATE_DIR = '/run/stillframe';

/** What a journal says. It grows as the checkpoint goes on. */
export interface JournalEntry {
  format: 1;
  id: string;
  /** `waiting` for the lock, or `held`. */
  lock: 'waiting' | 'held';
  /** ISO 8601. */
  since: string;
  /** Pids mean something only in this boot and this pid namespace. */
  bootId: string;
  pidNamespace: string;
  /** The root of the tree that is checkpointed; a restore has none yet, and a pod has none. */
  target?: ProcessId;
  /** A restore, until it is finished. */
  restore?: JournalRestore;
  /** The directory that a pod's checkpoint makes. Its containers have journals of their own. */
  podDirectory?: string;
  cgroup?: JournalCgroup;
  /** The directory of a cgroup that was about to be made for an adoption. */
  newCgroup?: string;
  guardian?: ProcessId;
  criu?: ProcessId;
  window: 'never' | 'open' | 'closed';
  /** ISO 8601: when the window was opened. */
  windowSince?: string;
  /** The cgroup was frozen before us: it is left so. */
  foundFrozen: boolean;
  /** Our temporary directories and files. */
  removals: string[];
}

/** What a restore has made so far, and will not stay if it dies. */
export interface JournalRestore {
  archivePath: string;
  /** Where it restores into. Not locked: others may restore into it, too. */
  cgroup?: { version: 1 | 2; path: string };
  /** The outermost cgroup that it has made. */
  madeCgroup?: string;
  /** The tree's root, and daemons of its own. */
  trees: ProcessId[];
  /** The pids that it is to make, which were free. */
  pids: number[];
  /** Names that nothing had before. */
  newNames: string[];
  /** Directories that were empty. */
  destinations: { path: string; device: string; inode: string }[];
}

export interface JournalCgroup {
  version: 1 | 2;
  path: string;
  /** The kernel's ids of the cgroup and of its ancestors, itself first: the same through every mount. */
  ids: string[];
  /** The directory of the cgroup from which the tree's root was adopted into this one. */
  adoptedFrom?: string;
  /** Processes of an adopted tree that came from elsewhere. */
  homes?: (ProcessId & { path: string })[];
}

export interface FoundJournal {
  path: string;
  owner: ProcessId;
  entry: JournalEntry;
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
 * @throws CheckpointError STATE_DIR_UNSAFE; a missing one is fine: it holds nothing
 */
export function checkStateDir(stateDir: string): void {
  const stat = lstatSync(stateDir, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isDirectory()) throw new CheckpointError('STATE_DIR_UNSAFE', { stateDir, why: 'is not a directory' });
  if (stat.uid !== process.geteuid?.())
    throw new CheckpointError('STATE_DIR_UNSAFE', { stateDir, why: `belongs to uid ${stat.uid}` });
  if ((stat.mode & 0o077) !== 0)
    throw new CheckpointError('STATE_DIR_UNSAFE', {
      stateDir,
      why: `has mode ${(stat.mode & 0o777).toString(8)}, which lets others in`,
    });
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
  static create(
    stateDir: string,
    work: { target: ProcessId; cgroup?: JournalCgroup | undefined } | { restoreOf: string } | { podDirectory: string },
  ): Journal {
    prepareStateDir(stateDir);
    const id = randomUUID();
    const entry: JournalEntry = {
      format: 1,
      id,
      lock: 'waiting',
      since: new Date().toISOString(),
      ...here(),
      ...('restoreOf' in work
        ? { restore: { archivePath: work.restoreOf, trees: [], pids: [], newNames: [], destinations: [] } }
        : 'podDirectory' in work
          ? work
          : { target: work.target, ...(work.cgroup === undefined ? {} : { cgroup: work.cgroup }) }),
      window: 'never',
      foundFrozen: false,
      removals: [],
    };
    const journal = new Journal(join(stateDir, nameFor(id, thisProcess())), entry);
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
    const fresh = `${this.path}${FRESH}`;
    writeFileSync(fresh, `${JSON.stringify(this.#entry)}\n`, { mode: 0o600 });
    renameSync(fresh, this.path);
  }

  remove(): void {
    rmSync(this.path, { force: true });
  }

  [Symbol.dispose](): void {
    this.remove();
  }
}

/** Every journal. What a process that died in the middle of a write left is removed on the way. */
export function readJournals(stateDir: string): FoundJournal[] {
  for (;;) {
    const found = tryReadJournals(stateDir);
    if (found !== undefined) return found;
  }
}

/**
 * `undefined` when one vanished between listing and reading: it may stand under a new name, claimed by another process.
 */
function tryReadJournals(stateDir: string): FoundJournal[] | undefined {
  const found: FoundJournal[] = [];
  for (const name of namesIn(stateDir)) {
    const owner = ownerIn(name);
    if (owner === undefined) continue;
    const path = join(stateDir, name);
    if (name.endsWith(FRESH)) {
      if (!isRunning(owner)) rmSync(path, { force: true });
      continue;
    }
    const entry = readEntry(path);
    if (entry === undefined) return undefined;
    if (entry.format === 1) found.push({ path, owner, entry });
  }
  return found;
}

/** Owner dead and guardian dead: nobody will put right what it left. A process of another namespace counts as alive. */
export function isAbandoned({ owner, entry }: FoundJournal): boolean {
  const { bootId, pidNamespace } = here();
  if (entry.bootId !== bootId) return true;
  if (entry.pidNamespace !== pidNamespace) return false;
  return !isRunning(owner) && (entry.guardian === undefined || !isRunning(entry.guardian));
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

/** Of a journal that is a lock, or has a window of a checkpoint: both have one. */
export function targetOf({ target }: JournalEntry): ProcessId {
  return target as ProcessId;
}

export function isOfThisBoot(entry: JournalEntry): boolean {
  return entry.bootId === here().bootId;
}

const FRESH = '.new';

function nameFor(id: string, owner: ProcessId): string {
  return `${id}@${owner.pid}-${owner.startTime}.json`;
}

function ownerIn(name: string): ProcessId | undefined {
  const match = /^[0-9a-f-]{36}@(\d+)-(\d+)\.json(?:\.new)?$/.exec(name);
  return match === null ? undefined : { pid: Number(match[1]), startTime: match[2] as string };
}

function namesIn(stateDir: string): string[] {
  try {
    return readdirSync(stateDir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function readEntry(path: string): JournalEntry | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as JournalEntry;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function thisProcess(): ProcessId {
  return identify(process.pid) as ProcessId;
}

let place: Pick<JournalEntry, 'bootId' | 'pidNamespace'> | undefined;

function here(): Pick<JournalEntry, 'bootId' | 'pidNamespace'> {
  return (place ??= {
    bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    pidNamespace: readlinkSync('/proc/self/ns/pid'),
  });
}
