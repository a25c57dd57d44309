import { resolve } from 'node:path';
import { openFreezer, pidsFrom } from '../../cgroup/index.js';
import { readProc } from '../../proc/task.js';
import { STATE_DIR } from '../../state-dir.js';
import { bad, optional, requirePath, requireRoot } from '../base/check-option.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { refuseUnknown } from '../option-names.js';
import type { Target } from '../window/target.js';
import { isHolderAlive, readNames, type FoundName } from './names.js';
import { isProgramName, NAME_RULE, type ProgramOrigin } from './record.js';

/** A program that was started by `start()`, or restored with its name. */
export interface NamedProgram extends ProgramOrigin {
  pid: number;
  /**
   * `starting`: somebody is about to start or restore it. `rootless`: its root has ended, and other processes of its
   * cgroup have not.
   */
  state: 'starting' | 'running' | 'frozen' | 'rootless' | 'ended';
  /** When it was started or restored, ISO 8601. */
  since: string;
  /** Directory of its cgroup; undefined once that has been removed, and while it is being made. */
  cgroup: string | undefined;
  /** How many processes are in the cgroup, and what they have in memory (with what they share counted for each). */
  processes: number;
  residentBytes: number;
  /** When it ended, and with which status as a shell has it, where somebody has seen it. */
  ended: { at: string; status: number | undefined } | undefined;
  lastCheckpoint: { at: string; archivePath: string } | undefined;
}

/**
 * Every name of this machine, those of programs that have ended until they are used again, or until the next boot.
 * @throws CheckpointError BAD_OPTION, NOT_ROOT, STATE_DIR_UNSAFE
 */
export function listPrograms(options: { stateDir?: string | undefined } = {}): NamedProgram[] {
  const names = namesFor(options);
  return names.flatMap((found) => described(found, names) ?? []);
}

/**
 * A program that lives.
 * @throws CheckpointError BAD_OPTION, NOT_ROOT, STATE_DIR_UNSAFE, NO_SUCH_NAME, PROGRAM_ENDED
 */
export function findProgram(
  name: string,
  options: { stateDir?: string | undefined } = {},
): NamedProgram & { target: Target } {
  if (!isProgramName(name)) bad('name', name, NAME_RULE);
  const names = namesFor(options);
  const programs = names.filter((found) => found.name === name);
  const known = programs.flatMap((found) => described(found, names) ?? []);
  // Of a dead one and one that has just taken its place, the latter.
  const program = known.find(({ state }) => state === 'running' || state === 'frozen') ?? known[0];
  if (program === undefined) {
    const damaged = programs.find(isHolderAlive);
    if (damaged !== undefined) throw new CheckpointError('NAME_UNREADABLE', { name, path: damaged.path });
    throw new CheckpointError('NO_SUCH_NAME', { name, names: listPrograms(options).map((each) => each.name) });
  }
  const { pid, state, cgroup, files, command, logPath } = program;
  if (state !== 'running' && state !== 'frozen')
    throw new CheckpointError('PROGRAM_ENDED', { name, state, cgroup, logPath });
  const origin = { name, command, files, logPath };
  return { ...program, target: { pid, ...(cgroup === undefined ? {} : { cgroup }), files, program: origin } };
}

function namesFor(options: { stateDir?: string | undefined }): FoundName[] {
  refuseUnknown<{ stateDir?: string | undefined }>(options, { stateDir: true });
  const { stateDir } = options;
  optional('stateDir', stateDir, requirePath);
  requireRoot('looking up names');
  return readNames(resolve(stateDir ?? STATE_DIR));
}

function described(found: FoundName, names: readonly FoundName[]): NamedProgram | undefined {
  const { record } = found;
  if (record === undefined) return undefined;
  const { name, command, files, logPath, since, lastCheckpoint, ended } = record;
  const isAlive = isHolderAlive(found);
  const path = record.cgroup?.path;
  // What an archive restores under another name is in the same cgroup.
  const isAnothers = !isAlive && names.some((other) => other.record?.cgroup?.path === path && isHolderAlive(other));
  const cgroup = isAnothers ? undefined : path;
  const pids = cgroup === undefined ? [] : pidsFrom(cgroup);
  return {
    ...{ name, command, files, logPath, since, cgroup, lastCheckpoint },
    ended: isAlive ? undefined : ended,
    pid: found.holder.pid,
    state: isAlive ? livingState(record.state, cgroup) : pids.length > 0 ? 'rootless' : 'ended',
    processes: pids.length,
    residentBytes: pids.reduce((sum, pid) => sum + residentBytes(pid), 0),
  };
}

function livingState(state: string, cgroup: string | undefined): NamedProgram['state'] {
  if (state !== 'running') return 'starting';
  try {
    return cgroup !== undefined && openFreezer({ cgroup }).state().frozen ? 'frozen' : 'running';
  } catch {
    return 'running'; // it has been moved, and its cgroup removed
  }
}

/** Source: proc_pid_status(5), VmRSS. */
function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readProc(`${pid}/status`) ?? '')?.[1] ?? 0) * 1024;
}
