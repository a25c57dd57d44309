import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setImmediate as immediate } from 'node:timers/promises';
import { freezerVersions, hierarchyRoot, isFreezerError, openFreezer, type FreezerState } from '../../cgroup/index.js';
import type { OptionNames } from '../../bad-option.js';
import { STATE_DIR } from '../../state-dir.js';
import { milliseconds, optional, requirePath } from '../base/check-option.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { refuseUnknown } from '../option-names.js';
import { removeEmptyCgroups } from '../program/tidy.js';
import { cgroupRecords, destinationRecords, logPath, replacementRecords, treeRecords } from './guardian.js';
import { GuardianProcess } from './guardian-process.js';
import type { JournalEntry } from './journal-entry.js';
import {
  checkStateDir,
  isAbandoned,
  isOfThisBoot,
  Journal,
  listJournals,
  mayBeAlive,
  readJournals,
  type FoundJournal,
} from './journal.js';

export interface RecoverOptions {
  /** Default /run/stillframe. */
  stateDir?: string;
  /** How long a left CRIU may take to undo its work before it is killed, in milliseconds. Default 2000. */
  criuTimeoutMs?: number;
  /** How long to try to thaw, in milliseconds. Default 10,000. */
  thawTimeoutMs?: number;
}

const RECOVER_OPTIONS: OptionNames<RecoverOptions> = { stateDir: true, criuTimeoutMs: true, thawTimeoutMs: true };

/** @throws CheckpointError BAD_OPTION */
function checkOptions<T extends RecoverOptions>(options: T, names: OptionNames<T>): void {
  refuseUnknown(options, names);
  optional('stateDir', options.stateDir, requirePath);
  milliseconds('criuTimeoutMs', options.criuTimeoutMs, 0);
  milliseconds('thawTimeoutMs', options.thawTimeoutMs, 0);
}

/** What was left behind by one checkpoint that died together with its guardian, and what became of it. */
export interface Recovery {
  /** The checkpoint's process that died, and the root of the tree that it worked on. */
  owner: number;
  pid: number | undefined;
  /**
   * The archive, of a restore that did not come to its end: `pid` is that of the tree it had begun to make then, if
   * any.
   */
  restoreOf: string | undefined;
  /** The directory that a pod's checkpoint was to make. Its containers' checkpoints are told of on their own. */
  podDirectory: string | undefined;
  cgroup: string | undefined;
  /** ISO 8601: when that checkpoint began. */
  since: string;
  /** What was done, in the order it was done. Empty when nothing was left but the journal. */
  did: string[];
}

/**
 * Puts right what dead checkpoints left: kills or awaits their CRIU, thaws their cgroups and verifies it,
 * gives adopted trees back, removes their temporary files. Does nothing to checkpoints that are alive.
 * @throws CheckpointError STATE_DIR_UNSAFE; RECOVERY_FAILED when something could not be put right: its journal stays;
 * the others were done
 */
export async function recover(options: RecoverOptions = {}): Promise<Recovery[]> {
  checkOptions(options, RECOVER_OPTIONS);
  // The guardian takes only absolute paths.
  const stateDir = resolve(options.stateDir ?? STATE_DIR);
  checkStateDir(stateDir);
  const recoveries: Recovery[] = [];
  const failures: unknown[] = [];
  for (const found of readJournals(stateDir).filter(isAbandoned)) {
    try {
      const recovery = await recoverJournal(found, { ...options, stateDir });
      if (recovery !== undefined) recoveries.push(recovery);
    } catch (error) {
      failures.push(error);
    }
  }
  await removeEmptyCgroups(stateDir);
  if (failures.length > 0)
    throw failures.length === 1
      ? failures[0]
      : new AggregateError(failures, `${failures.length} checkpoints could not be recovered`);
  return recoveries;
}

/** A file under a journal's name that is none, or that another version wrote: `recover` leaves it where it is. */
export interface LeftJournal {
  path: string;
  /** The process that its name says. */
  owner: number;
  /** It, or its guardian, may be at work: the file is a lock of what nobody else can tell. */
  isAlive: boolean;
  /** As in "FILE is of format 2, not 1". */
  why: string;
}

/**
 * What `recover` does not understand. The version that wrote it can put right what it names; a damaged one tells of
 * nothing, and is to be removed by hand, once `frozenCgroups` finds nothing that is left.
 * @throws CheckpointError STATE_DIR_UNSAFE
 */
export function leftJournals(options: { stateDir?: string } = {}): LeftJournal[] {
  checkOptions(options, { stateDir: true });
  const stateDir = resolve(options.stateDir ?? STATE_DIR);
  checkStateDir(stateDir);
  return listJournals(stateDir).unknown.map((unknown) => ({
    path: unknown.path,
    owner: unknown.owner.pid,
    isAlive: mayBeAlive(unknown),
    why: unknown.why,
  }));
}

/**
 * One abandoned journal. A guardian does the work, as it would have when the owner died: it is told what the journal
 * says, and then its socket is closed.
 * @returns undefined when another process took the journal over first
 * @param options `stateDir`: an absolute path.
 * @throws CheckpointError RECOVERY_FAILED
 */
export async function recoverJournal(
  found: FoundJournal,
  options: RecoverOptions & { stateDir: string },
): Promise<Recovery | undefined> {
  const { stateDir, criuTimeoutMs = 2000, thawTimeoutMs = 10_000 } = options;
  const journal = Journal.claim(stateDir, found);
  if (journal === undefined) return undefined;
  const { entry } = journal;
  const guardian = GuardianProcess.start();
  guardian.say(
    `owner ${found.owner.pid}`,
    `bounds ${Math.ceil(criuTimeoutMs)} ${Math.ceil(thawTimeoutMs)}`,
    `log ${logPath(journal)}`,
    `journal ${journal.path}`,
    ...recordsOf(entry),
  );
  const { deeds, end } = await guardian.abandon();
  const did = deeds.slice(deeds.findIndex((line) => line.startsWith('owner ')) + 1);
  if (end.exitCode !== 0) {
    journal.giveBack(found);
    throw new CheckpointError('RECOVERY_FAILED', {
      ...subjectOf(entry),
      did,
      journalPath: found.path,
      stateDir,
    });
  }
  return { owner: found.owner.pid, ...subjectOf(entry), since: entry.since, did };
}

function subjectOf({
  target,
  cgroup,
  restore,
  restored,
  podDirectory,
}: JournalEntry): Pick<Recovery, 'pid' | 'restoreOf' | 'podDirectory' | 'cgroup'> {
  return {
    pid: (target ?? restore?.trees[0])?.pid,
    restoreOf: restore?.archivePath ?? restored,
    podDirectory,
    cgroup: (cgroup ?? restore?.cgroup)?.path,
  };
}

/** After a reboot only files can be left: the same pid or cgroup path would be another process, another cgroup. */
function recordsOf(entry: JournalEntry): string[] {
  const removals = [
    ...entry.removals.map((path) => `remove ${path}`),
    ...(entry.restore === undefined ? [] : destinationRecords(entry.restore)),
    ...replacementRecords(entry),
  ];
  if (!isOfThisBoot(entry)) return removals;
  return [
    ...(entry.newCgroup === undefined ? [] : [`new-cgroup ${entry.newCgroup}`]),
    ...(entry.cgroup === undefined ? [] : cgroupRecords(entry.cgroup)),
    ...(entry.criu === undefined ? [] : [`criu ${entry.criu.pid} ${entry.criu.startTime}`]),
    ...(entry.restore === undefined ? [] : treeRecords(entry.restore)),
    ...(entry.copy === undefined ? [] : [`made-cgroup ${entry.copy.cgroup}`]),
    `found ${entry.foundFrozen ? 'frozen' : 'thawed'}`,
    ...(entry.window === 'never' ? [] : [`window ${entry.window}`]),
    ...removals,
  ];
}

/** A cgroup that somebody asked to be frozen. */
export interface FrozenCgroup extends FreezerState {
  version: 1 | 2;
  path: string;
  /**
   * The process that froze it for a checkpoint or for work of its caller, and the root of the tree, if one was named;
   * undefined when it was none of ours.
   */
  by: { pid: number; targetPid: number | undefined; isAlive: boolean } | undefined;
  /** ISO 8601; undefined when it was none of ours: the kernel does not say. */
  since: string | undefined;
}

/**
 * Every self-frozen cgroup of this machine, as far as it is visible here, on v1 and v2.
 * @throws CheckpointError STATE_DIR_UNSAFE
 */
export async function frozenCgroups(options: { stateDir?: string } = {}): Promise<FrozenCgroup[]> {
  checkOptions(options, { stateDir: true });
  const { stateDir = STATE_DIR } = options;
  checkStateDir(stateDir);
  const journals = readJournals(stateDir).filter(
    ({ entry }) => entry.window === 'open' && entry.restore === undefined && isOfThisBoot(entry),
  );
  const frozen: FrozenCgroup[] = [];
  for (const version of freezerVersions()) {
    const root = hierarchyRoot(version);
    if (root === undefined) continue;
    for (const path of cgroupsBelow(root)) {
      await immediate(); // a machine may have thousands
      const state = stateOf(path);
      if (state?.selfFrozen !== true) continue;
      const ours = journals.find(({ entry }) => entry.cgroup?.path === path && !entry.foundFrozen);
      frozen.push({
        version,
        path,
        ...state,
        by:
          ours === undefined
            ? undefined
            : { pid: ours.owner.pid, targetPid: ours.entry.target?.pid, isAlive: !isAbandoned(ours) },
        since: ours?.entry.windowSince,
      });
    }
  }
  return frozen;
}

function* cgroupsBelow(directory: string): Generator<string> {
  for (const entry of listed(directory)) {
    const path = join(directory, entry);
    yield path;
    yield* cgroupsBelow(path);
  }
}

function listed(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []; // removed since it was listed
    throw error;
  }
}

function stateOf(path: string): FreezerState | undefined {
  try {
    return openFreezer({ cgroup: path }).state();
  } catch (error) {
    if (isFreezerError(error, 'CGROUP_GONE') || isFreezerError(error, 'CGROUP_NOT_FOUND')) return undefined;
    throw error;
  }
}
