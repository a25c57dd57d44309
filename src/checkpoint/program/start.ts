import { randomBytes } from 'node:crypto';
import { closeSync, fstatSync } from 'node:fs';
import { constants } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  cgroupOf,
  freezerVersions,
  makeCgroup,
  openCgroup,
  pidsFrom,
  placeProcess,
  removeCgroup,
} from '../../cgroup/index.js';
import type { OptionNames } from '../../bad-option.js';
import { findCommand } from '../../find-command.js';
import { identify, type ProcessId } from '../../proc/identity.js';
import { readProcess } from '../../proc/task.js';
import type { ProcessEnd } from '../../process.js';
import { STATE_DIR } from '../../state-dir.js';
import type { TreeEnd } from '../../tree-end.js';
import { whileWanted } from '../../while-wanted.js';
import { bad, optional, requirePath, requireRoot } from '../base/check-option.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { refuseUnknown } from '../option-names.js';
import { Undo } from '../restore/undo.js';
import type { Target } from '../window/target.js';
import { NameClaim } from './claim.js';
import { Launch } from './launch.js';
import { defaultLogPath, openLog } from './log-file.js';
import { amendRecord } from './names.js';
import { isProgramName, NAME_RULE, nameFromCommand, type ProgramOrigin, type ProgramTree } from './record.js';
import { removeEmptyCgroups } from './tidy.js';

export interface StartOptions {
  /** The program, looked for on PATH unless its name has a slash, and its arguments. */
  command: readonly string[];
  /**
   * Under which it is known: letters, digits, `_`, `.` and `-`. Default: the program's own, with a number behind it
   * where that is taken.
   */
  name?: string | undefined;
  /** The file trees that a checkpoint of the name archives, unless it is told others. */
  files?: readonly ProgramTree[] | undefined;
  /** The file that standard output and standard error are appended to. Default: /var/log/stillframe/NAME.log */
  logPath?: string | undefined;
  /** Directory of its cgroup, which must be empty; made when missing. Default: a new one below this process's own. */
  cgroup?: string | undefined;
  /** Which freezer, where the machine has both and no `cgroup` is named. Default: v2. */
  cgroupVersion?: 1 | 2 | undefined;
  /** Its working directory. Default: this process's own. */
  cwd?: string | undefined;
  /** Its environment. Default: this process's own. */
  env?: NodeJS.ProcessEnv | undefined;
  /** As in CheckpointOptions; names are kept there, too. */
  stateDir?: string | undefined;
  /** Cancels the start: nothing is left of it. */
  signal?: AbortSignal | undefined;
}

export const START_OPTIONS: OptionNames<StartOptions> = {
  command: true,
  name: true,
  files: true,
  logPath: true,
  cgroup: true,
  cgroupVersion: true,
  cwd: true,
  env: true,
  stateDir: true,
  signal: true,
};

/** How a program that was started here ended. */
export interface ProgramEnd extends TreeEnd {
  /** Processes of its cgroup that have not ended with the root: without a root they can be checkpointed no more. */
  remaining: { pid: number; name: string }[];
}

export interface StartedProgram {
  name: string;
  command: string[];
  /** The root of the tree, a child of this process. */
  pid: number;
  cgroup: { version: 1 | 2; path: string };
  logPath: string;
  /** The size of the log when it was started, in bytes: what is behind that is its output. */
  logStart: number;
  files: ProgramTree[];
  /** For `checkpoint({ ...target, output })`. */
  target: Target;
  /**
   * Resolves when the root has ended and has been reaped, and its cgroup has been removed, if that was made and is
   * empty. Only who waits keeps the event loop alive. `signal` ends the waiting, with its reason; the program runs on.
   */
  ended(options?: { signal?: AbortSignal | undefined }): Promise<ProgramEnd>;
  /** Sends a signal to the root, or to its process group as a terminal does; nothing once the root has ended. */
  kill(signal: NodeJS.Signals, options?: { group?: boolean }): void;
}

/** A tree whose root has ended is given this long to end with it, in milliseconds. */
const LAST_ONES_MS = 500;
const LOOK_MS = 10;
const MOST_NAMES = 1000;

/**
 * Starts a program so that it can be checkpointed later: in a session and a cgroup of its own, without a terminal, its
 * standard input /dev/null, its output appended to a file, and known under a name. It runs with this process's user,
 * environment and working directory, and has all of these before its first instruction.
 * @throws CheckpointError BAD_OPTION, NOT_ROOT, COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE, NAME_TAKEN, LOG_UNUSABLE,
 * CGROUP_TAKEN, STATE_DIR_UNSAFE; FreezerError; NativeError. Nothing is left then
 */
export async function start(options: StartOptions): Promise<StartedProgram> {
  const settings = checkStartOptions(options);
  const { command, env, stateDir, signal } = settings;
  signal?.throwIfAborted();
  const { path, problem } = findCommand(command[0]!, env.PATH);
  if (problem !== undefined) throw notExecuted(command[0]!, problem);
  await removeEmptyCgroups(stateDir);
  using claim = await claimName(settings);
  const logPath = settings.logPath ?? defaultLogPath(claim.name);
  const undo = new Undo('start of a program');
  try {
    const cgroup = prepareCgroup(claim.name, settings);
    if (cgroup.made) undo.push(() => removeCgroup(cgroup.path));
    const log = openLog(logPath, { makeDirectory: settings.logPath === undefined });
    const logStart = fstatSync(log).size;
    let launch: Launch;
    try {
      launch = Launch.prepare({ ...{ path, env, log }, args: command, cwd: settings.cwd });
    } finally {
      closeSync(log);
    }
    undo.push(() => launch.end());
    const { pid } = launch.child;
    placeProcess(pid, cgroup.path);
    claim.register(identify(pid) as ProcessId, { cgroup, logPath });
    signal?.throwIfAborted();
    const failure = await launch.go();
    if (failure !== undefined) throw notExecuted(command[0]!, failure);
    claim.keep();
    undo.forget();
    launch.child.keepLoop(false);
    const ended = launch.child.ended.then((end) => finish(end, { cgroup, recordPath: claim.path }));
    const { version, path: cgroupPath } = cgroup;
    const origin: ProgramOrigin = { name: claim.name, command, files: settings.files, logPath };
    return {
      ...{ ...origin, logPath, logStart, pid },
      cgroup: { version, path: cgroupPath },
      target: { pid, cgroup: cgroupPath, files: settings.files, program: origin },
      ended: (waiting) => whileWanted(ended, waiting?.signal),
      kill: (name, { group = false } = {}) => {
        if (launch.child.end === undefined) process.kill(group ? -pid : pid, name);
      },
    };
  } catch (error) {
    throw await undo.after(error, () => undefined);
  }
}

interface StartSettings {
  command: string[];
  name: string | undefined;
  files: ProgramTree[];
  logPath: string | undefined;
  cgroup: string | undefined;
  cgroupVersion: 1 | 2 | undefined;
  cwd: string;
  env: NodeJS.ProcessEnv;
  stateDir: string;
  signal: AbortSignal | undefined;
}

export function checkStartOptions(options: StartOptions): StartSettings {
  refuseUnknown(options, START_OPTIONS);
  const { command, name, files = [], logPath, cgroup, cgroupVersion, cwd, env, stateDir, signal } = options;
  if (!Array.isArray(command) || command.length === 0 || command[0] === '' || !command.every(isWord))
    bad('command', command, 'a program and its arguments, without zero bytes');
  if (name !== undefined && !isProgramName(name)) bad('name', name, NAME_RULE);
  if (!Array.isArray(files) || !files.every((tree) => typeof tree === 'object' && (tree as unknown) !== null))
    bad('files', files, 'a list of trees, each { path, name }');
  for (const tree of files) {
    requirePath('files[].path', tree.path);
    requirePath('files[].name', tree.name);
  }
  for (const [option, value] of Object.entries({ logPath, cgroup, cwd, stateDir }))
    optional(option, value, requirePath);
  if (cgroupVersion !== undefined && cgroupVersion !== 1 && cgroupVersion !== 2)
    bad('cgroupVersion', cgroupVersion, '1 or 2');
  requireRoot('starting a program');
  return {
    ...{ name, cgroup, cgroupVersion, signal },
    command: [...(command as string[])],
    files: files.map((tree) => ({ name: tree.name, path: resolve(tree.path) })),
    logPath: logPath === undefined ? undefined : resolve(logPath),
    cwd: cwd ?? process.cwd(),
    env: env ?? process.env,
    stateDir: resolve(stateDir ?? STATE_DIR),
  };
}

function isWord(value: unknown): boolean {
  return typeof value === 'string' && !value.includes('\0');
}

async function claimName({ name, command, files, logPath, stateDir, signal }: StartSettings): Promise<NameClaim> {
  const origin = (of: string): ProgramOrigin => ({ name: of, command, files, logPath });
  if (name !== undefined) return NameClaim.take(stateDir, origin(name), signal);
  const base = nameFromCommand(command[0]!);
  for (let n = 1; ; n++) {
    try {
      return await NameClaim.take(stateDir, origin(n === 1 ? base : `${base}-${n}`), signal);
    } catch (error) {
      if (!(error instanceof CheckpointError && error.code === 'NAME_TAKEN') || n === MOST_NAMES) throw error;
    }
  }
}

/** A program that shares its cgroup could not be checkpointed. */
export function cgroupForProgram(
  name: string,
  { cgroup, cgroupVersion }: Pick<StartOptions, 'cgroup' | 'cgroupVersion'>,
): string {
  const versions = freezerVersions();
  const version = cgroupVersion ?? (versions.includes(2) || versions.length === 0 ? 2 : 1);
  return cgroup ?? join(cgroupOf(process.pid, version).path, `stillframe-${name}-${randomBytes(4).toString('hex')}`);
}

function prepareCgroup(name: string, settings: StartSettings): { version: 1 | 2; path: string; made: boolean } {
  const path = cgroupForProgram(name, settings);
  const made = makeCgroup(path).length > 0;
  const pids = pidsFrom(path);
  if (pids.length > 0) throw new CheckpointError('CGROUP_TAKEN', { cgroup: path, pids });
  return { version: openCgroup(path).version, path: openCgroup(path).path, made };
}

function notExecuted(command: string, reason: string): CheckpointError {
  return reason === 'ENOENT'
    ? new CheckpointError('COMMAND_NOT_FOUND', { command })
    : new CheckpointError('COMMAND_NOT_EXECUTABLE', { command, reason });
}

/** The root has ended: what becomes of its cgroup, and of its name. */
export async function finish(
  end: ProcessEnd & Partial<TreeEnd>,
  { cgroup, recordPath }: { cgroup: { path: string; made: boolean }; recordPath: string },
): Promise<ProgramEnd> {
  let pids = pidsFrom(cgroup.path);
  for (const patience = performance.now() + LAST_ONES_MS; pids.length > 0 && performance.now() < patience;) {
    await sleep(LOOK_MS, undefined, { ref: false });
    pids = pidsFrom(cgroup.path);
  }
  const { exitCode, exitSignal } = end;
  const bySignal = exitSignal === undefined ? undefined : 128 + constants.signals[exitSignal];
  const status = end.status ?? exitCode ?? bySignal;
  amendRecord(recordPath, { ended: { at: new Date().toISOString(), status } });
  if (cgroup.made && pids.length === 0) {
    try {
      await removeCgroup(cgroup.path);
      amendRecord(recordPath, { cgroup: undefined });
    } catch {
      // the next start removes it
    }
  }
  return { ...end, status, remaining: pids.map((pid) => ({ pid, name: readProcess(pid)?.name ?? '' })) };
}
