import { badOptionText, type BadOption } from '../../bad-option.js';
import { compileCommand } from '../../installed.js';
import { StillframeError, type ErrorTexts, type FactsOf } from '../../errors.js';
import { recoverCommandFor } from '../../state-dir.js';
import { textOfAll, type Warning } from '../warnings/warning.js';

/** An open file whose size on disk is not the one that CRIU recorded: CRIU would refuse the restore. */
export interface DifferingFile {
  path: string;
  expectedBytes: number;
  /** Undefined when there is no such file. */
  foundBytes: number | undefined;
}

/** A process that keeps a process id from being used again. */
export interface PidHolder {
  /** The id that is taken. */
  pid: number;
  /** Who holds it: the process itself, the process whose thread has it, or a member of the group or session. */
  holder: number;
  /** The process's name and state; the thread's own where a thread has the id. */
  name: string;
  state: string;
  as: 'process' | 'thread' | 'process group' | 'session';
  /** Of a zombie: who has to reap it. */
  parent?: { pid: number; name: string };
}

/** Who holds the lock on a target. */
export interface LockHolder {
  pid: number;
  /** ISO 8601: when its checkpoint began. `undefined` where its journal is not understood. */
  since: string | undefined;
  /** The same; and where it holds a cgroup that was named without a process. */
  targetPid: number | undefined;
  cgroup: string | undefined;
}

/** An archive that was passed over for an older one, and why. */
export interface SkippedArchive {
  path: string;
  /** Of the error; undefined where that is none of Stillframe's own. */
  code: string | undefined;
  message: string;
}

/** What is known when each code comes. */
export interface CheckpointFacts {
  BAD_OPTION: BadOption;
  NOT_ROOT: { action: string; uid: number };
  ANCESTOR_FROZEN: { cgroup: string; path: string };
  THAWED_BY_OTHERS: { cgroup: string };
  LEFT_FROZEN: { cgroup: string };
  WORK_DIR_UNUSABLE: { path: string };
  /** `directory`: the one on the way that is not safe. */
  WORK_DIR_UNSAFE: { path: string; directory: string; why: string };
  IMAGES_FULL: { path: string; freeBytes: number; neededBytes: number };
  /** `reason`: the errno's name. */
  IMAGES_FAILED: { path: string; reason: string };
  LEFT_BEHIND: { path: string };
  TARGET_GONE: { pid: number };
  TARGET_FORKING: { pid: number; name: string };
  NOT_A_CHECKPOINT: { archivePath: string; what: string; kind?: string };
  /** `tree`: the first of `trees`. */
  NO_DESTINATION: { tree: string; trees: string[]; archivePath: string };
  UNKNOWN_TREE: { tree: string; trees: string[] };
  NOT_IN_CHECKPOINT: { archivePath: string; pid: number; why: string };
  OPEN_FILE_DIFFERS: { files: DifferingFile[] };
  NO_TERMINAL: { archivePath: string };
  PIDS_TAKEN: { holders: PidHolder[]; timeoutMs: number };
  NO_CGROUP: { name: string };
  CGROUP_FROZEN: { cgroup: string };
  NOT_RUNNING: { pid: number; what: string };
  /** `unknownJournal`: the holder's is of another version, or damaged, and may be of the same tree or cgroup. */
  TARGET_BUSY: {
    /** Undefined where a cgroup was named, and no process. */
    pid: number | undefined;
    cgroup: string | undefined;
    holder: LockHolder;
    unknownJournal?: { path: string; why: string };
  };
  STATE_DIR_UNSAFE: { stateDir: string; why: string };
  GUARDIAN_MISSING: { tried: string[] };
  GUARDIAN_LOST: { pid: number; exitCode?: number; exitSignal?: string };
  GUARDIAN_REFUSED: { record: string; errno: number };
  /** `restoreOf`: the archive, when it was a restore. `podDirectory`: what it was to make, when it was a pod's. */
  RECOVERY_FAILED: {
    pid: number | undefined;
    restoreOf: string | undefined;
    podDirectory: string | undefined;
    cgroup: string | undefined;
    did: string[];
    journalPath: string;
    stateDir: string;
  };
  DEADLINE_EXCEEDED: { maxFrozenMs: number; phase: string };
  /** `state`: CRIU's, a letter of /proc/PID/stat, when the time was up; `during`: it was ready, and then stopped. */
  CRIU_NOT_READY: { pid: number; timeoutMs: number; state: string; during?: 'pre-dump' };
  SERVICE_MANAGER_UNREACHABLE: { socket: string };
  WARNINGS_REFUSED: { warnings: Warning[] };
  /** `dir`: the directory that `prepare` was to make. */
  PREPARE_REFUSED: { dir: string; why: string };
  NOT_PREPARED: { dir: string; what: string };
  PREPARED_UNSAFE: { dir: string; why: string };
  /** `path`: the first file that differs from the record. */
  PREPARED_CHANGED: { dir: string; path: string; what: string };
  /** A prepared directory, and no copy asked for. */
  CLONE_NEEDED: { dir: string };
  /** `step`: what pid 1 of the copy could not do; `reason`: an errno's name, or what became of it. */
  CLONE_FAILED: { step: string; path: string | undefined; reason: string };
  /** `path`: the place of a file tree. */
  CLONE_PLACE: { path: string; what: string };
  INIT_MISSING: { tried: string[] };
  PORTS_TAKEN: { ports: number[] };
  COMMAND_NOT_FOUND: { command: string };
  /** `reason`: the errno's name. */
  COMMAND_NOT_EXECUTABLE: { command: string; reason: string };
  /** `since`: ISO 8601; undefined where the record cannot be read. */
  NAME_TAKEN: { name: string; pid: number; since: string | undefined };
  NAME_UNREADABLE: { name: string; path: string };
  NO_SUCH_NAME: { name: string; names: string[] };
  PROGRAM_ENDED: {
    name: string;
    state: 'starting' | 'rootless' | 'ended';
    cgroup: string | undefined;
    logPath: string | undefined;
  };
  CGROUP_TAKEN: { cgroup: string; pids: number[] };
  /** `isRecorded`: an archive says so, not the caller. */
  LOG_UNUSABLE: { path: string; why: string; isRecorded?: boolean };
  ARCHIVE_DIR_UNUSABLE: { dir: string; why: string };
  /** `path`: the directory, or the archive, that others could have put there. */
  ARCHIVE_UNSAFE: { path: string; why: string };
  /** `program`: whose archives were looked for; undefined: any. */
  NO_ARCHIVE: { dir: string; program: string | undefined; skipped: SkippedArchive[] };
}

export type CheckpointErrorCode = keyof CheckpointFacts;

/** Every error of checkpoint and restore themselves. Match on `code`. */
export class CheckpointError<C extends CheckpointErrorCode = CheckpointErrorCode> extends StillframeError<
  C,
  FactsOf<CheckpointFacts, C>
> {
  override readonly name = 'CheckpointError';
  constructor(code: C, facts: CheckpointFacts[C] & { cause?: unknown }) {
    super(code, texts[code](facts), facts);
  }
}

const list = <T>(items: readonly T[], show: (item: T) => string): string =>
  items.slice(0, 10).map(show).join(', ') + (items.length > 10 ? `, and ${items.length - 10} more` : '');

const HELD_AS: Readonly<Record<PidHolder['as'], (id: number) => string>> = {
  process: () => '',
  thread: (id) => `thread ${id} of `,
  'process group': () => 'the process group of ',
  session: () => 'the session of ',
};

const stateOf = ({ state, parent }: PidHolder): string =>
  parent === undefined
    ? `state ${state}`
    : `a zombie that process ${parent.pid} (${parent.name}), its parent, has not reaped`;

const endOf = ({ exitCode, exitSignal }: CheckpointFacts['GUARDIAN_LOST']): string => {
  if (exitSignal !== undefined) return `was ended by ${exitSignal}`;
  return exitCode === undefined ? 'does not answer' : `ended with status ${exitCode}`;
};

const operationOf = ({ restoreOf, podDirectory, pid, cgroup }: CheckpointFacts['RECOVERY_FAILED']): string => {
  if (restoreOf !== undefined) return `restore of ${restoreOf}`;
  if (podDirectory !== undefined) return `checkpoint of a pod into ${podDirectory}`;
  return pid === undefined ? `freeze of cgroup ${String(cgroup)}` : `checkpoint of process ${pid}`;
};

const PROGRAM_STATES: Readonly<
  Record<CheckpointFacts['PROGRAM_ENDED']['state'], (facts: CheckpointFacts['PROGRAM_ENDED']) => string>
> = {
  starting: ({ name }) => `the program ${name} is just being started or restored`,
  rootless: ({ name, cgroup }) =>
    `the root of the program ${name} has ended; others of its processes live on in ${String(cgroup)}, and CRIU dumps a ` +
    'tree by its root',
  ended: ({ name }) => `the program ${name} has ended`,
};

const texts: ErrorTexts<CheckpointFacts> = {
  BAD_OPTION: badOptionText,
  NOT_ROOT: (f) => ({ what: `${f.action} needs root; this process runs as uid ${f.uid}`, remedy: 'Run it with sudo.' }),
  ANCESTOR_FROZEN: (f) => ({
    what: `cgroup ${f.cgroup} is frozen by its ancestor ${f.path}: it cannot be thawed by itself, and CRIU could not run in it`,
    remedy: `Thaw the ancestor first: stillframe thaw ${f.path}`,
  }),
  THAWED_BY_OTHERS: (f) => ({
    what: `somebody else thawed cgroup ${f.cgroup} inside its frozen window: what was read of it is not from one instant, and no archive was written`,
    remedy: 'Find out what writes to its freezer files, such as a container manager that resumes it, and try again.',
  }),
  LEFT_FROZEN: (f) => ({
    what: `cgroup ${f.cgroup} could not be thawed after a failure, and may still be frozen`,
    remedy: `Thaw it: stillframe thaw ${f.cgroup}`,
  }),
  WORK_DIR_UNUSABLE: (f) => ({
    what: `cannot make a private directory in ${f.path}`,
    remedy: 'Name a writable directory with `workDir`.',
  }),
  WORK_DIR_UNSAFE: (f) => ({
    what: `memory images cannot be stored safely in ${f.path}: ${f.directory} ${f.why}`,
    remedy:
      'Name a directory with `workDir` that only root can write to, parents included, such as one in /var/lib; or ' +
      '/var/tmp.',
  }),
  IMAGES_FULL: (f) => ({
    what:
      `the file system of the images directory ${f.path} is full: ${f.freeBytes} bytes are left, the images need ` +
      `about ${f.neededBytes}`,
    remedy: 'Make room, or name a directory on a larger file system with `workDir`.',
  }),
  IMAGES_FAILED: (f) => ({
    what: `the images in ${f.path} could not be written or read (${f.reason})`,
    remedy: 'Check that file system, or name a directory on another one with `workDir`.',
  }),
  LEFT_BEHIND: (f) => ({
    what: `the private directory ${f.path} could not be removed`,
    remedy: 'It may contain the memory of the target: remove it as soon as its file system allows.',
  }),
  TARGET_GONE: (f) => ({
    what: `process ${f.pid} ended meanwhile`,
    remedy: 'Start it again; nothing was left behind.',
  }),
  TARGET_FORKING: (f) => ({
    what:
      `process ${f.pid} (${f.name}) waits in vfork for its child to start another program, and CRIU cannot stop a ` +
      'task in that state',
    remedy: 'Try again a moment later (`retries`): this state usually lasts a millisecond.',
  }),
  NOT_A_CHECKPOINT: (f) => ({
    what: `${f.archivePath} is a valid archive, but not a checkpoint that can be restored here: ${f.what}`,
    remedy:
      f.kind === 'container'
        ? 'Restore a container into its runtime: `runc` or `crun` with `bundle`, or `podman`.'
        : 'Give the file that `stillframe checkpoint --output` wrote.',
  }),
  NO_DESTINATION: (f) => ({
    what: `the archive ${f.archivePath} does not say where its file ${f.trees.length === 1 ? 'tree' : 'trees'} ${f.trees.join(', ')} ${f.trees.length === 1 ? 'was' : 'were'}`,
    remedy: `Name ${f.trees.length === 1 ? 'its destination' : 'the destination of each'} with \`files\`: a directory for ${f.trees.map((tree) => JSON.stringify(tree)).join(', ')}.`,
  }),
  UNKNOWN_TREE: (f) => ({
    what: `the archive has no file tree ${f.tree}; it has: ${f.trees.join(', ') || 'none'}`,
    remedy: 'See: stillframe inspect ARCHIVE',
  }),
  NOT_IN_CHECKPOINT: (f) => ({
    what: `the archive ${f.archivePath} has no memory of a process ${f.pid}: ${f.why}`,
    remedy: 'See: stillframe inspect ARCHIVE',
  }),
  OPEN_FILE_DIFFERS: (f) => ({
    what: `CRIU would refuse the restore, because open files differ from the checkpoint: ${list(f.files, (x) =>
      x.foundBytes === undefined
        ? `${x.path} is missing (expected ${x.expectedBytes} bytes)`
        : `${x.path} has ${x.foundBytes} bytes (expected ${x.expectedBytes})`,
    )}`,
    remedy: 'Put these files back as they were, or archive them with the next checkpoint (`files`).',
  }),
  NO_TERMINAL: (f) => ({
    what:
      `the tree in ${f.archivePath} had a terminal from outside the tree, like a shell's job: it cannot be restored ` +
      'without one',
    remedy: 'Restore it from a terminal, or provide one with `terminal`.',
  }),
  PIDS_TAKEN: (f) => ({
    what: `the process ids of the checkpoint are still in use after ${f.timeoutMs} ms: ${list(
      f.holders,
      (h) => `${h.pid} by ${HELD_AS[h.as](h.pid)}process ${h.holder} (${h.name}, ${stateOf(h)})`,
    )}`,
    remedy: f.holders.every(({ parent }) => parent !== undefined)
      ? 'They have ended, but their parent has not reaped them: end the parent, or make it wait for them.'
      : 'End those processes, or wait until they have ended and their parents have reaped them.',
  }),
  NO_CGROUP: (f) => ({
    what: `this machine has no cgroup freezer for the recorded cgroup ${f.name}`,
    remedy: 'See: stillframe doctor',
  }),
  CGROUP_FROZEN: (f) => ({
    what: `cgroup ${f.cgroup} is frozen: CRIU could not run in it`,
    remedy: `Thaw it (stillframe thaw ${f.cgroup}), or restore into another one (\`cgroup\`).`,
  }),
  NOT_RUNNING: (f) => ({
    what: `CRIU reported the restore of process ${f.pid} as done, but ${f.what}`,
    remedy: "See CRIU's log: keep it with `criuLog`.",
  }),
  TARGET_BUSY: (f) => {
    const target = [f.pid && `process ${f.pid}`, f.cgroup && `cgroup ${f.cgroup}`].filter(Boolean).join(' in ');
    if (f.unknownJournal !== undefined)
      return {
        what:
          `${target} may be in the hands of process ${f.holder.pid}, or of its guardian: the journal ` +
          `${f.unknownJournal.path} ${f.unknownJournal.why}`,
        remedy:
          'Wait for that process to end, or end it. Two versions of Stillframe may be at work here: use the same one.',
      };
    return {
      what: `${target} is already being checkpointed or held frozen, by process ${f.holder.pid} since ${String(f.holder.since)}${
        f.holder.cgroup === undefined || f.holder.cgroup === f.cgroup ? '' : `, in cgroup ${f.holder.cgroup}`
      }`,
      remedy: 'Wait for it to end, or end that process.',
    };
  },
  STATE_DIR_UNSAFE: (f) => ({
    what: `the state directory ${f.stateDir} ${f.why}`,
    remedy: 'It must belong to root and be accessible to root only (mode 0700).',
  }),
  GUARDIAN_MISSING: (f) => ({
    what: `the guardian program could not be started (tried ${f.tried.join(', ')})`,
    remedy: `Compile it: ${compileCommand}`,
  }),
  GUARDIAN_LOST: (f) => ({
    what: `the guardian (process ${f.pid}) ${endOf(f)}, so nothing would thaw the target if this process died`,
    remedy:
      'Find out what ends it. If a service manager kills the whole cgroup, put the guardian elsewhere with ' +
      '`placeGuardianIn`.',
  }),
  GUARDIAN_REFUSED: (f) => ({
    what: `the guardian rejected the record "${f.record}" (errno ${f.errno})`,
    remedy: 'See docs/guardian.md for what each record needs.',
  }),
  RECOVERY_FAILED: (f) => ({
    what:
      `what the dead ${operationOf(f)} left behind could not be cleaned up: ` +
      (f.did.join('; ') || 'the guardian reported nothing'),
    remedy: `Fix the problem above, then run: ${recoverCommandFor(f.stateDir)} (details are in ${f.journalPath})`,
  }),
  DEADLINE_EXCEEDED: (f) => ({
    what: `the target stood still for more than ${f.maxFrozenMs} ms and was thawed during the phase ${f.phase}`,
    remedy: 'Raise `maxFrozenMs`. The report of a success shows how long each part takes.',
  }),
  CRIU_NOT_READY: (f) => ({
    what:
      f.during !== undefined
        ? `CRIU (process ${f.pid}) was stopped (SIGSTOP) for ${f.timeoutMs} ms in a ${f.during}; it was continued ` +
          'and ended, and the tree keeps running'
        : `CRIU (process ${f.pid}) was not ready to dump after ${f.timeoutMs} ` +
          `ms${f.state === 'T' ? ', because it was stopped (SIGSTOP)' : ''}; nothing had been frozen, and CRIU was ` +
          'ended',
    remedy:
      f.state === 'T'
        ? 'Find out what stops it, and try again.'
        : 'CRIU probes the kernel before it is ready: run `stillframe doctor`, or raise `criuStartTimeoutMs` on a ' +
          'slow machine.',
  }),
  SERVICE_MANAGER_UNREACHABLE: (f) => ({
    what: `cannot notify the service manager at ${f.socket}`,
    remedy: 'Install the optional package unix-dgram, and check NOTIFY_SOCKET.',
  }),
  WARNINGS_REFUSED: ({ warnings }) => {
    const { what, remedy } = textOfAll(warnings);
    return {
      what: `refused, because strict (--strict) is set: ${what}`,
      remedy: `${remedy} Without strict it is a warning.`.trim(),
    };
  },
  PREPARE_REFUSED: (f) => ({
    what: `no prepared directory can be made at ${f.dir}: it ${f.why}`,
    remedy: 'Name a directory that does not exist, in one that only root can write to.',
  }),
  NOT_PREPARED: (f) => ({
    what: `${f.dir} is not a prepared directory: ${f.what}`,
    remedy: 'Make one: stillframe prepare ARCHIVE DIR',
  }),
  PREPARED_UNSAFE: (f) => ({
    what: `the prepared directory ${f.dir} cannot be trusted: ${f.why}`,
    remedy: 'Prepare the archive again, where only root can write, parents included.',
  }),
  PREPARED_CHANGED: (f) => ({
    what: `the prepared directory ${f.dir} has been changed since it was made: ${f.path} ${f.what}`,
    remedy: 'Prepare the archive again: stillframe prepare ARCHIVE DIR',
  }),
  CLONE_NEEDED: (f) => ({
    what: `${f.dir} is a directory: a tree is restored from an archive, or as a copy from a prepared directory`,
    remedy: 'Add `clone: true`, or give the archive.',
  }),
  CLONE_FAILED: (f) => ({
    what: `the copy could not be made: ${f.step}${f.path === undefined ? '' : ` (${f.path})`}: ${f.reason}`,
    remedy:
      f.reason === 'EPERM'
        ? 'Copies need the right to make pid and mount namespaces (CAP_SYS_ADMIN): in a container it has to be given.'
        : 'The message names the step and the error of the system.',
  }),
  CLONE_PLACE: (f) => ({
    what: `a file tree of the copy cannot be put at ${f.path}: ${f.what}`,
    remedy: 'Make the place, an empty directory, or name another one with `files`.',
  }),
  INIT_MISSING: (f) => ({
    what: `the program that is pid 1 of a copy could not be found (tried ${f.tried.join(', ')})`,
    remedy: `Compile it: ${compileCommand}`,
  }),
  PORTS_TAKEN: (f) => ({
    what: `the copy would listen on ports that are taken in this network: ${f.ports.join(', ')}`,
    remedy: 'Give the copy a network of its own (`net: own`), or end what listens there.',
  }),
  COMMAND_NOT_FOUND: (f) => ({ what: `there is no program ${f.command}`, remedy: 'Check its name, and PATH.' }),
  COMMAND_NOT_EXECUTABLE: (f) => ({
    what: `${f.command} cannot be executed (${f.reason})`,
    remedy: 'Name a program, or a script that is executable (chmod +x).',
  }),
  NAME_TAKEN: (f) => ({
    what: `the name ${f.name} belongs to process ${f.pid}${f.since === undefined ? '' : `, since ${f.since}`}`,
    remedy: 'Choose another name (`name`), or end that program.',
  }),
  NAME_UNREADABLE: (f) => ({
    what: `what is recorded of the name ${f.name} in ${f.path} cannot be read`,
    remedy: 'Another version of Stillframe may have written it: use that one, or the process id.',
  }),
  NO_SUCH_NAME: (f) => ({
    what: `no program has the name ${f.name}`,
    remedy: `There ${f.names.length === 0 ? 'is none' : `is: ${list(f.names, String)}`}. See: stillframe ps`,
  }),
  PROGRAM_ENDED: (f) => ({
    what: PROGRAM_STATES[f.state](f),
    remedy:
      f.state === 'rootless'
        ? 'Start a program that stays in the foreground: most that go into the background have an option for that.'
        : `${f.logPath === undefined ? 'See: stillframe ps' : `Its output is in ${f.logPath}`}`,
  }),
  CGROUP_TAKEN: (f) => ({
    what: `cgroup ${f.cgroup} holds other processes: ${list(f.pids, String)}`,
    remedy: 'Name an empty or a new cgroup, or leave the option out.',
  }),
  LOG_UNUSABLE: (f) => ({
    what: `the log ${f.path} ${f.why}`,
    remedy:
      f.isRecorded === true
        ? 'If the path is right, make an empty file of mode 0600 there: the restored program appends to it.'
        : 'Name another file with `logPath`.',
  }),
  ARCHIVE_DIR_UNUSABLE: (f) => ({
    what: `the directory of archives ${f.dir} ${f.why}`,
    remedy: 'Name an existing directory, best one of its own for each program.',
  }),
  ARCHIVE_UNSAFE: (f) => ({
    what: `${f.path} is not trusted without being named: ${f.why}`,
    remedy: 'Keep archives where only root can write, parents included; or restore the archive by its path.',
  }),
  NO_ARCHIVE: (f) => ({
    what:
      `${f.dir} has no archive${f.program === undefined ? '' : ` of the program ${f.program}`} that can be used` +
      (f.skipped.length === 0 ? '' : `; passed over: ${list(f.skipped, skippedText)}`),
    remedy: 'See: stillframe list DIR',
  }),
};

function skippedText({ path, code, message }: SkippedArchive): string {
  return `${path} (${message.split('\n')[0] ?? ''}${code === undefined ? '' : `, ${code}`})`;
}
