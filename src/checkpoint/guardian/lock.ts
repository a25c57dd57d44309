/**
 * One checkpoint of a cgroup at a time, and none of its ancestors or descendants meanwhile, on the whole machine.
 * Node has no flock(2), so the lock is made of the journals: each caller publishes its own first, and looks at the
 * others after. Of two that see each other the one with the smaller id goes first, so that never both go on and never
 * both fail.
 */
import { rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { identify } from '../../proc/identity.js';
import { pause } from '../../when-aborted.js';
import { whileWanted } from '../../while-wanted.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import type { JournalCgroup, JournalClaim, JournalEntry } from './journal-entry.js';
import {
  checkStateDir,
  isAbandoned,
  isEmpty,
  isOwnerDead,
  Journal,
  listJournals,
  mayBeAlive,
  newEntry,
  readJournals,
  type FoundJournal,
  type JournalWork,
  type UnknownJournal,
} from './journal.js';
import { STATE_DIR } from '../../state-dir.js';
import { recoverJournal } from './recover.js';

export interface LockOptions {
  /** Root of the process tree. Left out for a cgroup of which no tree was named. */
  pid?: number | undefined;
  /**
   * The cgroup that will be frozen. Left out before an adoption: the tree's pid alone is locked then, see `lockCgroup`.
   */
  cgroup?: { version: 1 | 2; path: string; adoptedFrom?: string };
  /** Default /run/stillframe. */
  stateDir?: string;
  signal?: AbortSignal | undefined;
}

// A guardian needs milliseconds, unless it waits for a CRIU that does not end.
const PUT_RIGHT_PATIENCE_MS = 3000;
const POLL_MS = 2;

/**
 * Takes the lock; the journal is its proof and releases it when removed. What a dead checkpoint of the same
 * cgroup left behind (both it and its guardian were killed) is put right first.
 * @throws CheckpointError TARGET_BUSY at once when somebody alive holds it, TARGET_GONE, STATE_DIR_UNSAFE,
 * RECOVERY_FAILED; the signal's reason
 */
export async function lockTarget(options: LockOptions): Promise<Journal> {
  const { pid, cgroup, stateDir = STATE_DIR, signal } = options;
  signal?.throwIfAborted();
  const journal = Journal.create(stateDir, workOn(pid, cgroup));
  try {
    await winOver(journal, stateDir, signal);
    return journal;
  } catch (error) {
    journal.remove();
    throw error;
  }
}

function workOn(pid: number | undefined, cgroup: LockOptions['cgroup']): JournalWork {
  const withAll = cgroup === undefined ? undefined : withIds(cgroup);
  if (pid === undefined) {
    if (withAll === undefined) throw new TypeError('neither a process nor a cgroup to lock');
    return { cgroup: withAll };
  }
  const target = identify(pid);
  if (target === undefined) throw new CheckpointError('TARGET_GONE', { pid });
  return { target, cgroup: withAll };
}

/**
 * The error that `lockTarget` would throw now; undefined where it would take the lock. Nothing is written, and what the
 * dead left behind stays.
 * @throws CheckpointError TARGET_GONE, STATE_DIR_UNSAFE
 */
export function whoHoldsTarget({ pid, cgroup, stateDir = STATE_DIR }: LockOptions): CheckpointError | undefined {
  const work = workOn(pid, cgroup);
  checkStateDir(stateDir);
  const wanted = newEntry(work);
  const { found, unknown } = listJournals(stateDir, false);
  const stranger = unknown.find((other) => mayBeAlive(other) && mayOverlap(other, wanted));
  if (stranger !== undefined) return busyWithUnknown(wanted, stranger);
  const holder = found.find((other) => !isAbandoned(other) && overlap(other.entry, wanted));
  return holder === undefined ? undefined : busy(wanted, holder);
}

/**
 * Adds the cgroup to a lock that was taken for the pid alone.
 * @throws CheckpointError TARGET_BUSY; the signal's reason. The lock on the pid is still held then
 */
export async function lockCgroup(
  journal: Journal,
  cgroup: NonNullable<LockOptions['cgroup']>,
  { stateDir = STATE_DIR, signal }: Pick<LockOptions, 'stateDir' | 'signal'> = {},
): Promise<void> {
  signal?.throwIfAborted();
  journal.update({ cgroup: withIds(cgroup), lock: 'waiting' });
  await winOver(journal, stateDir, signal);
}

/**
 * The journal of a restore, which locks nothing.
 * @throws CheckpointError STATE_DIR_UNSAFE
 */
export function journalRestore(archivePath: string, stateDir: string): Journal {
  const journal = Journal.create(stateDir, { restoreOf: archivePath });
  removeEmptyJournals(stateDir);
  return journal;
}

/**
 * The journal of a pod's checkpoint, which locks nothing: its containers' checkpoints do.
 * @throws CheckpointError STATE_DIR_UNSAFE
 */
export function journalPod(directory: string, stateDir: string): Journal {
  const journal = Journal.create(stateDir, { podDirectory: directory });
  removeEmptyJournals(stateDir);
  return journal;
}

/** Of whatever target: a tree that died between its lock and its guardian may never be locked again. */
function removeEmptyJournals(stateDir: string): void {
  for (const found of readJournals(stateDir))
    if (isAbandoned(found) && isEmpty(found)) rmSync(found.path, { force: true });
}

async function winOver(journal: Journal, stateDir: string, signal: AbortSignal | undefined): Promise<void> {
  removeEmptyJournals(stateDir);
  const patienceEnd = performance.now() + PUT_RIGHT_PATIENCE_MS;
  for (;;) {
    const { found, unknown } = listJournals(stateDir);
    const others = found.filter(({ entry }) => entry.id !== journal.entry.id && overlap(entry, journal.entry));
    const abandoned = others.find(isAbandoned);
    if (abandoned !== undefined) {
      // A recovery that is under way goes on to its end, whether we wait for it or not.
      await whileWanted(recoverJournal(abandoned, { stateDir }), signal);
      continue;
    }
    // Of another version, which takes no turns with ours.
    const stranger = unknown.find((other) => mayBeAlive(other) && mayOverlap(other, journal.entry));
    if (stranger !== undefined) throw busyWithUnknown(journal.entry, stranger);
    const holder = others.find((other) => other.entry.lock === 'held' || other.entry.id < journal.entry.id);
    if (holder === undefined && others.length === 0) break;
    if (holder !== undefined && !(isOwnerDead(holder) && performance.now() < patienceEnd))
      throw busy(journal.entry, holder);
    // A guardian at work, or one that ended a moment ago, or a competitor that will see us and give way.
    await pause(POLL_MS, signal);
  }
  journal.update({ lock: 'held' });
}

/** The same tree, or cgroups of which one contains the other. */
function overlap(a: JournalClaim, b: JournalClaim): boolean {
  if (
    a.bootId === b.bootId &&
    a.pidNamespace === b.pidNamespace &&
    a.target !== undefined &&
    a.target.pid === b.target?.pid &&
    a.target.startTime === b.target.startTime
  )
    return true;
  if (a.cgroup === undefined || b.cgroup === undefined || a.bootId !== b.bootId) return false;
  return a.cgroup.ids.includes(b.cgroup.ids[0] as string) || b.cgroup.ids.includes(a.cgroup.ids[0] as string);
}

/** What claims nothing that can be read may be at work on anything. */
function mayOverlap({ claim }: UnknownJournal, wanted: JournalEntry): boolean {
  return claim === undefined || overlap(claim, wanted);
}

function busy(wanted: JournalEntry, { owner, entry }: FoundJournal): CheckpointError<'TARGET_BUSY'> {
  return new CheckpointError('TARGET_BUSY', {
    pid: wanted.target?.pid,
    cgroup: wanted.cgroup?.path,
    holder: { pid: owner.pid, since: entry.since, targetPid: entry.target?.pid, cgroup: entry.cgroup?.path },
  });
}

function busyWithUnknown(wanted: JournalEntry, { path, owner, why, claim }: UnknownJournal) {
  return new CheckpointError('TARGET_BUSY', {
    pid: wanted.target?.pid,
    cgroup: wanted.cgroup?.path,
    holder: { pid: owner.pid, since: undefined, targetPid: claim?.target?.pid, cgroup: undefined },
    unknownJournal: { path, why },
  });
}

/** Inode numbers are the kernel's ids of cgroups: unlike a path they are the same through every mount and namespace. */
function withIds(cgroup: NonNullable<LockOptions['cgroup']>): JournalCgroup {
  const own = statSync(cgroup.path);
  const ids = [`${cgroup.version}:${own.ino}`];
  for (
    let path = dirname(cgroup.path), stat = statSync(path);
    stat.dev === own.dev;
    path = dirname(path), stat = statSync(path)
  ) {
    ids.push(`${cgroup.version}:${stat.ino}`);
    if (path === '/') break;
  }
  return { ...cgroup, ids };
}
