import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { openCgroup } from '../../cgroup/index.js';
import type { OptionNames } from '../../bad-option.js';
import { CriuError } from '../../criu/index.js';
import { identify, isRunning } from '../../proc/identity.js';
import { whileWanted } from '../../while-wanted.js';
import { bad, milliseconds, optional, requirePath } from '../base/check-option.js';
import { CheckpointError, type SkippedArchive } from '../base/checkpoint-error.js';
import type { RestoreReport } from '../events/report.js';
import { refuseUnknown } from '../option-names.js';
import { recordPath } from '../program/names.js';
import { nameFromCommand } from '../program/record.js';
import {
  cgroupForProgram,
  checkStartOptions,
  finish,
  start,
  START_OPTIONS,
  type ProgramEnd,
  type StartedProgram,
  type StartOptions,
} from '../program/start.js';
import { removeEmptyCgroups } from '../program/tidy.js';
import { restore } from '../restore/restore.js';
import { withLatestArchive, type LatestOptions } from './latest.js';
import type { ListedArchive } from './listed-archive.js';

export interface StartOrRestoreOptions extends StartOptions, Pick<LatestOptions, 'onSkipped'> {
  /** An existing directory of archives, such as that of `checkpointEvery()`. */
  restoreFrom: string;
  /** What becomes of files that are in the place of archived ones, as in `restore()`. Default 'keep'. */
  replaceFiles?: 'keep' | 'remove' | undefined;
  /** How long to wait for the old process ids to be free, in milliseconds. Default 10,000. */
  pidTimeoutMs?: number | undefined;
}

export interface StartedOrRestored extends StartedProgram {
  /** Where it was restored from; undefined when it was started. */
  restored: { archive: ListedArchive; report: RestoreReport } | undefined;
  /** Archives that could not be restored, the newest first. */
  skipped: SkippedArchive[];
}

const OPTIONS: OptionNames<StartOrRestoreOptions> = {
  ...START_OPTIONS,
  ...{ restoreFrom: true, replaceFiles: true, pidTimeoutMs: true, onSkipped: true },
};

/**
 * Restores a program from the newest checkpoint of its name that can be restored, or starts it where there is none. An
 * archive that is damaged, or that CRIU refuses to restore here, is passed over, and the next older one is tried; the
 * machine's faults (process ids or a name that are taken, a full disk) are errors, and nothing is started then.
 *
 * A restored program has its recorded command, environment, log and files; of the options the cgroup applies to it.
 * @throws what `start()` and `restore()` throw; CheckpointError ARCHIVE_DIR_UNUSABLE, ARCHIVE_UNSAFE
 */
export async function startOrRestore(options: StartOrRestoreOptions): Promise<StartedOrRestored> {
  refuseUnknown(options, OPTIONS);
  const { restoreFrom, replaceFiles = 'keep', pidTimeoutMs, onSkipped, ...starting } = options;
  requirePath('restoreFrom', restoreFrom);
  if (!['keep', 'remove'].includes(replaceFiles)) bad('replaceFiles', replaceFiles, 'keep or remove');
  optional('pidTimeoutMs', pidTimeoutMs, (option, value) => milliseconds(option, value, 0));
  if (onSkipped !== undefined && typeof onSkipped !== 'function') bad('onSkipped', onSkipped, 'a function');
  const settings = checkStartOptions(starting);
  const { stateDir, signal } = settings;
  await removeEmptyCgroups(stateDir);
  const name = settings.name ?? nameFromCommand(settings.command[0]!);
  const cgroup = resolve(cgroupForProgram(name, settings));
  const limits = {
    ...(signal === undefined ? {} : { signal }),
    ...(pidTimeoutMs === undefined ? {} : { pidTimeoutMs }),
  };
  let logStart = 0;
  const attempt = async (archive: string, { of }: ListedArchive): Promise<RestoreReport> => {
    logStart = sizeOf(of?.kind === 'process-tree' ? of.program?.logPath : undefined);
    return restore({ archive, replaceFiles, name, cgroup, stateDir, ...limits });
  };
  const skipped: SkippedArchive[] = [];
  const looking = {
    program: name,
    onSkipped: (passed: SkippedArchive) => {
      skipped.push(passed);
      onSkipped?.(passed);
    },
    mayPass: isRefusalOfCriu,
    signal,
  };
  try {
    const { archive, result: report } = await withLatestArchive(restoreFrom, attempt, looking);
    const isCgroupOurs = settings.cgroup === undefined;
    return { ...restoredProgram({ archive, report }, { name, cgroup, isCgroupOurs, logStart, stateDir }), skipped };
  } catch (error) {
    if (!(error instanceof CheckpointError && error.code === 'NO_ARCHIVE')) throw error;
    return { ...(await start({ ...starting, name })), restored: undefined, skipped };
  }
}

/** A library that has been updated since, for example. */
function isRefusalOfCriu(error: unknown): boolean {
  return error instanceof CriuError && ['CRIU_REQUEST_FAILED', 'CRIU_IMAGE'].includes(error.code);
}

function sizeOf(path: string | undefined): number {
  return path === undefined ? 0 : (statSync(path, { throwIfNoEntry: false })?.size ?? 0);
}

interface RestoredPlace {
  name: string;
  cgroup: string;
  isCgroupOurs: boolean;
  logStart: number;
  stateDir: string;
}

/** A tree that is no child of ours, as one that is. */
function restoredProgram(
  restored: { archive: ListedArchive; report: RestoreReport },
  { name, cgroup: path, isCgroupOurs, logStart, stateDir }: RestoredPlace,
): Omit<StartedOrRestored, 'skipped'> {
  const { archive, report } = restored;
  const { pid } = report;
  const root = identify(pid) ?? { pid, startTime: '' }; // it has ended already
  const program = archive.of?.kind === 'process-tree' ? archive.of.program : undefined;
  const { command = [], files = [], logPath } = program ?? {};
  let end: Promise<ProgramEnd> | undefined;
  const ended = async (): Promise<ProgramEnd> =>
    finish(await report.ended(), {
      cgroup: { path, made: isCgroupOurs },
      recordPath: recordPath(stateDir, name, root),
    });
  return {
    ...{ name, command, files, pid, logStart, restored },
    logPath: logPath ?? '/dev/null',
    cgroup: { version: openCgroup(path).version, path },
    target: { pid, cgroup: path, files, program: { name, command, files, logPath } },
    ended: (waiting) => whileWanted((end ??= ended()), waiting?.signal),
    kill: (signal, { group = false } = {}) => {
      if (isRunning(root)) process.kill(group ? -pid : pid, signal);
    },
  };
}
