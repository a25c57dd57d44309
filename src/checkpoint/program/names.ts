/** The directory of names: who has which, and who of them lives. */
import { lstatSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { identify, type ProcessId } from '../../proc/identity.js';
import { readProcess, threadsOf } from '../../proc/task.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { checkStateDir, here, prepareStateDir } from '../guardian/journal.js';
import type { Target } from '../window/target.js';
import { isProgramName, readRecord, type ProgramRecord } from './record.js';

/** A record and the process that it stands for: the program's root, or who is about to start it. */
export interface FoundName {
  path: string;
  name: string;
  holder: ProcessId;
  /** `undefined`: it cannot be read, or is of another version. */
  record: ProgramRecord | undefined;
}

function namesDir(stateDir: string): string {
  return join(stateDir, 'names');
}

/** @throws CheckpointError STATE_DIR_UNSAFE */
export function prepareNames(stateDir: string): void {
  prepareStateDir(stateDir);
  prepareStateDir(namesDir(stateDir));
}

/** The file's name holds the holder, so that a dead one's is removed without a look at who may have come after it. */
export function recordPath(stateDir: string, name: string, { pid, startTime }: ProcessId): string {
  return join(namesDir(stateDir), `${name}@${pid}-${startTime}.json`);
}

/** Whole or not at all. */
export function writeRecord(path: string, record: ProgramRecord): void {
  const fresh = `${path}.new`;
  writeFileSync(fresh, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  renameSync(fresh, path);
}

/**
 * Every record, by name. Nothing is changed.
 * @throws CheckpointError STATE_DIR_UNSAFE, NOT_ROOT
 */
export function readNames(stateDir: string): FoundName[] {
  checkStateDir(stateDir);
  const directory = namesDir(stateDir);
  checkStateDir(directory);
  return namesIn(directory).flatMap((file) => {
    const [, name, pid, startTime] = /^([^@]+)@(\d{1,10})-(\d{1,20})\.json$/.exec(file) ?? [];
    if (name === undefined || startTime === undefined || !isProgramName(name)) return [];
    const path = join(directory, file);
    const record = readRecord(path);
    if (record === undefined && lstatSync(path, { throwIfNoEntry: false }) === undefined) return [];
    return [{ path, name, holder: { pid: Number(pid), startTime }, record }];
  });
}

/**
 * Whether the process of a record lives. One of another pid namespace counts as alive, and so does one whose record
 * cannot be read: the file's name tells who it is.
 */
export function isHolderAlive({ holder, record }: FoundName): boolean {
  const { bootId, pidNamespace } = here();
  if (record !== undefined && record.bootId !== bootId) return false;
  if (record !== undefined && record.pidNamespace !== pidNamespace) return true;
  const info = readProcess(holder.pid);
  if (info === undefined || String(info.startTime) !== holder.startTime) return false;
  // A leader that has ended before its threads is a zombie, yet its process lives.
  return !info.isExiting || threadsOf(holder.pid).length > 1;
}

export function removeRecord({ path }: Pick<FoundName, 'path'>): void {
  rmSync(path, { force: true });
  rmSync(`${path}.new`, { force: true });
}

/** Something about a record that is still there; what has been replaced meanwhile stays so. */
export function amendRecord(path: string, changes: Partial<ProgramRecord>): void {
  const record = readRecord(path);
  if (record !== undefined) writeRecord(path, { ...record, ...changes });
}

/** A name's last checkpoint. What cannot be noted is none the worse for it. */
export function noteCheckpoint(
  { pid, program }: Pick<Target, 'pid' | 'program'>,
  lastCheckpoint: { at: string; archivePath: string },
  stateDir: string,
): void {
  const root = identify(pid);
  if (program === undefined || root === undefined) return;
  try {
    amendRecord(recordPath(stateDir, program.name, root), { lastCheckpoint });
  } catch {
    // a full state directory
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new CheckpointError('STATE_DIR_UNSAFE', { stateDir: directory, why: 'cannot be read', cause });
  }
}
