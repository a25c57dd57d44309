import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, resolve } from 'node:path';
import { Writable } from 'node:stream';
import {
  hasTooManyParts,
  nameOfSource,
  whyNoExclude,
  type ArchiveSource,
  type ArchiveWriterOptions,
  type OutputCompression,
} from '../archive/index.js';
import type { CriuRestoreOptions } from '../criu/index.js';
import {
  bad,
  count,
  flag,
  milliseconds,
  optional,
  refuseAdoptedCgroup,
  requirePath,
  requirePid,
  requireRoot,
  requireSource,
  windowSettings,
  type WindowSettings,
} from './base/check-option.js';
import { parseOrigin } from './program/record.js';
import { STATE_DIR } from '../state-dir.js';
import { checkAddresses, type AddressReplacement } from './restore/new-addresses.js';
import { checkCloneOptions, type CloneOptions, type CloneSettings } from './clone/options.js';
import type { OnProgress, OnWarning, OnWindow } from './events/phases.js';
import type { OnFrozen } from './window/frozen.js';
import type { PreDumpPlan } from './dump/pre-dump.js';
import type { FileTree, Target } from './window/target.js';

export interface CheckpointOptions extends Target {
  /**
   * The archive to write: a file's path, or a stream that gets it after the thaw, at its own pace; it is ended, or
   * destroyed when the checkpoint fails.
   */
  output: string | Writable;
  /**
   * Compress the archive, after the window, in threads. zstd needs Node.js 22.15, or the program zstd. Default: not at
   * all.
   */
  compress?: OutputCompression;
  /** Replace an existing output, atomically. Default false: it is an error. */
  overwrite?: boolean;
  /**
   * End the tree when the archive is safe on disk. Default false: the tree runs on. One that has its terminal from
   * outside, such as a shell's job, is restored only by who gives it another (`terminal` of `restore()`): the report's
   * `needsTerminal` says so.
   */
  stop?: boolean;
  /**
   * Copy the files once while the target runs, so that only what changed is copied while it stands still.
   * Default true; false copies everything inside the frozen window.
   */
  precopy?: boolean;
  /**
   * Let the kernel tell which files change (fanotify) in trees that take long to be looked at, so that the window need
   * not look at all of them. Once the tree runs again all are looked at, and a change that the kernel had not told of
   * is CHANGE_UNNOTICED: then another try (`retries`) goes without. The number is how many milliseconds a tree's first
   * look must take for that. Default 20 (some 15,000 files); Infinity: never. Works from Linux 6.12 on, on ext4, xfs,
   * btrfs, f2fs and tmpfs, upper directories of overlays among them; elsewhere every file is looked at in the window.
   */
  watchFromMs?: number;
  /**
   * Write the memory ahead, while the target runs, so that only what was changed since is written while it stands
   * still: `{ rounds }` so often, or `{ untilBelowBytes }` until a round wrote less. Default: not at all. Needs a
   * kernel that tracks memory (CONFIG_MEM_SOFT_DIRTY): CRIU_FEATURE_MISSING before anything is touched. A target that
   * is found frozen gets none.
   */
  preDump?: PreDumpPlan;
  /**
   * Where CRIU's images are written before they are archived, in a private directory; for a stream the archive is
   * staged here, too. Default: for the images /dev/shm, when it is a tmpfs and they fit into memory with ease and there
   * is no `preDump`; else, and for a stream's archive, the output's directory or the system's directory for temporary
   * files; for the images /var/tmp, where others could rename what is in that. Nobody but root and the caller may be
   * able to rename what is in this one (WORK_DIR_UNSAFE).
   */
  workDir?: string;
  /**
   * Where CRIU's log is kept when CRIU fails. An existing file is not replaced. Default: only its last error lines are
   * kept, in the error.
   */
  criuLog?: string;
  /** The CRIU to use. Default: `$STILLFRAME_CRIU`, then `criu` on PATH, then Stillframe's own. */
  criuPath?: string;
  /**
   * Give CRIU Stillframe's own `tar`, by the PATH of that CRIU alone, for the tmpfs mounts of a container or of another
   * tree with mounts of its own: CRIU starts it for each of them inside the frozen window, and GNU tar takes many times
   * as long. What it writes is for GNU tar to extract. Default true; false leaves CRIU the tar that PATH has.
   */
  criuHelpers?: boolean;
  /**
   * How long the tree may stand still, in milliseconds. Past it, whatever is under way is cancelled, the tree
   * thawed, and the error DEADLINE_EXCEEDED says what was too slow. Default: no limit.
   */
  maxFrozenMs?: number;
  /**
   * How long CRIU may take from its start until it is ready to seize the tree, in milliseconds. The tree runs
   * meanwhile. Past it CRIU is ended, and the error CRIU_NOT_READY says whether somebody has stopped it. Default
   * 30,000: it takes a tenth of a second, but over ten on an emulated machine. A CRIU that is stopped in a pre-dump is
   * ended likewise, after the shorter of this and `maxFrozenMs`.
   */
  criuStartTimeoutMs?: number;
  /**
   * Directory of a cgroup for the guardian process, where a service manager would kill it with this one. Default: this
   * process's own.
   */
  placeGuardianIn?: string;
  /**
   * How often to try again when CRIU refuses at an instant that passes by itself: a unix or TCP connection that is made
   * and not accepted yet, a child between vfork and exec; and when the kernel had not told of a change (`watchFromMs`).
   * Each try is one frozen window more, bounded by `maxFrozenMs` for itself; before it the tree runs again, verified.
   * The phase `retry` and the report's `attempts` tell. Default 2: what is refused is refused early in the window, and
   * whoever is told of it can do nothing but call again. 0 for one window at most. Targets of one instant (a pod) are
   * tried once.
   */
  retries?: number;
  /**
   * Where journals and locks are, a directory that only root can enter, made when missing (its parent must exist).
   * Locks hold among those that name the same one. Default: /run/stillframe.
   */
  stateDir?: string;
  /** How long the freeze may take, in milliseconds. Default 2000. */
  freezeTimeoutMs?: number;
  /** How long the thaw may take, in milliseconds. Default 5000. */
  thawTimeoutMs?: number;
  /** Cancels at any point: the tree is thawed and nothing is left behind. */
  signal?: AbortSignal;
  /** Called at the start and end of each phase, and with its progress. It must not throw. */
  onProgress?: OnProgress;
  /**
   * Called inside the window, when everything is verified frozen, and awaited before CRIU touches the tree: for a
   * snapshot of a file system or another copy of the same instant. It makes the window longer. When it fails, or is not
   * done within `maxFrozenMs`, the tree is thawed, no archive is written, and the checkpoint fails with its error. Each
   * attempt (`retries`) calls it again. In a pod it is called once for each container, when all of them stand still.
   */
  onFrozen?: OnFrozen;
  /** Called when a frozen window has been closed, those of failed attempts too. It must not throw. */
  onWindow?: OnWindow;
  /**
   * Also archive every file outside `files` that the tree has mapped shared and writable or open for writing when the
   * checkpoint begins, such as those of /dev/shm; the restore puts each back where it was. For plain trees only.
   * Default false: they are warned of.
   */
  filesInUse?: boolean;
  /**
   * Refuse what would only be warned of: each warning is the error WARNINGS_REFUSED, as early as it is known; the tree
   * runs on, and no archive is left. Default false.
   */
  strict?: boolean;
  /** Called with each warning when it is found, those of failed attempts too. It must not throw. */
  onWarning?: OnWarning;
}

/** What `checkpoint()` takes; `output` may be left out. */
export type CheckpointPlanOptions = Omit<CheckpointOptions, 'output'> & {
  output?: CheckpointOptions['output'] | undefined;
  /** How long to watch which files change, in milliseconds. Default 1000. */
  observeMs?: number | undefined;
};

/** A restored tree that has not run yet. */
export interface BeforeResume {
  /** Its root, and all its processes, as this process sees them. */
  pid: number;
  pids: number[];
  /** Where its root directory is seen: `/`, or of a copy `/proc/PID/root`. */
  root: string;
}

export type OnBeforeResume = (tree: BeforeResume) => void | Promise<void>;

export interface RestoreOptions {
  /**
   * How much a compressed archive may unpack to, and a stream may bring, in bytes. Default: nine tenths of what is free
   * where that is written.
   */
  maxUnpackedBytes?: number | undefined;
  /**
   * The archive to restore from: its path; an open file, which stays the caller's; or what brings its bytes, such as a
   * stream, which is kept in a file without a name in `workDir` until the end, at most `maxUnpackedBytes` of it.
   */
  archive: ArchiveSource;
  /** How errors name it. Default: its path, or what it is. */
  archiveName?: string | undefined;
  /** Where file trees go, by their names in the archive. Default: where each was. */
  files?: Record<string, string>;
  /**
   * Put file trees in the place of what is there, as after a crash. Each is made whole beside it, hidden, and the two
   * are exchanged by one rename when everything is verified; the old files are put back when the restore fails. Once it
   * has succeeded they are kept beside the new ones under a name that the report's `replaced` tells ('keep'), or
   * removed. Until then there has to be room for both. Default: what is there is not touched, and DESTINATION_NOT_EMPTY
   * or DESTINATION_EXISTS is the error.
   */
  replaceFiles?: 'keep' | 'remove';
  /**
   * The name that the restored tree gets: see `start()`. Default: the one that it had at the checkpoint, if it had one.
   * A name that a living program has is NAME_TAKEN, before anything is touched.
   */
  name?: string | undefined;
  /** Directory of the cgroup to restore into; made when missing. Default: the recorded one. */
  cgroup?: string;
  /** CRIU options over the ones that Stillframe chooses. */
  criu?: CriuRestoreOptions;
  /** As in CheckpointOptions: the guardian takes the restore back when this process dies. */
  placeGuardianIn?: string;
  stateDir?: string;
  /**
   * Where CRIU's images are unpacked to, in a private directory. Nobody but root and the caller may be able to rename
   * what is in it (WORK_DIR_UNSAFE). Default: /dev/shm, when it is a tmpfs and a whole archive would fit into memory
   * with ease; else the archive's directory; /var/tmp where others could do that there, and for what has no path.
   */
  workDir?: string;
  /** As in CheckpointOptions. */
  criuLog?: string;
  /**
   * Let the tree run before its memory is there: a daemon of CRIU's brings what is touched, and the rest behind it. The
   * promise still resolves when all has come; the end of the phase `thaw` tells that the tree runs. Default false.
   */
  lazyPages?: boolean;
  /**
   * A terminal of ours (its descriptor, which stays ours), for a tree whose terminal was outside of it, such as a
   * shell's job: the tree has it in place of its own. Only such a tree gets it, which then shares our session or has
   * one of its own, as `terminal` of `CriuClient.start()` says; without, its restore is NO_TERMINAL, before anything is
   * touched.
   */
  terminal?: number;
  /**
   * Restore a copy, beside whatever runs: in a pid namespace, a mount namespace and a cgroup of its own, with the same
   * pids and paths inside. `archive` may then be a directory that `prepare()` made. docs/copies.md says what a copy has
   * of its own. Not with `replaceFiles`, `lazyPages` or `terminal`. Default false.
   */
  clone?: boolean | CloneOptions;
  /**
   * Other addresses for the inet sockets of the tree, by the ones that they had: `{ '127.0.0.1': '127.0.0.2' }`. Both
   * ends of a connection get the new one where they had the old. IPv4 and IPv6, each by its own kind.
   */
  replaceAddresses?: Record<string, string>;
  /**
   * Called when the tree exists whole and nothing of it has run, and awaited: to change its files, or to send it
   * signals that it takes first of all. When it fails the restore is undone, and fails with its error.
   */
  onBeforeResume?: OnBeforeResume;
  /** As in CheckpointOptions. */
  criuPath?: string;
  /** How long to wait for the old process ids to be free, in milliseconds. Default 10,000. */
  pidTimeoutMs?: number;
  /** How long the thaw may take, in milliseconds. Default 5000. */
  thawTimeoutMs?: number;
  /** Cancels: nothing that was extracted is left. */
  signal?: AbortSignal;
  onProgress?: OnProgress;
  /** As in CheckpointOptions. What is known only when the tree runs ends it again. */
  strict?: boolean;
  /** As in CheckpointOptions. */
  onWarning?: OnWarning;
}

export interface CheckpointSettings extends WindowSettings {
  /** Undefined for a stream. */
  outputPath: string | undefined;
  writer: ArchiveWriterOptions;
  stop: boolean;
  filesInUse: boolean;
  strict: boolean;
  precopy: boolean;
  watchFromMs: number;
  preDump: PreDumpPlan | undefined;
  /** Undefined: wherever the images fit. */
  workDir: string | undefined;
  /** What takes the images when memory does not. */
  diskDir: string;
  criuLog: string | undefined;
  criuHelpers: boolean;
  criuStartTimeoutMs: number;
  retries: number;
}

/** NAME_MAX, of Linux's file systems. Source: include/uapi/linux/limits.h. */
const MAX_NAME_BYTES = 255;

/** @throws CheckpointError BAD_OPTION, NOT_ROOT: before anything is touched */
export function checkCheckpointOptions(options: CheckpointOptions): CheckpointSettings {
  requirePid('pid', options.pid);
  const { output } = options;
  if (output instanceof Writable) {
    if (output.destroyed || output.writableEnded) bad('output', 'a stream that has ended', 'one that can be written');
  } else {
    requirePath('output', output);
    if (basename(output) === '' || output.endsWith('/')) bad('output', output, "a file's path");
    // Found only when the archive gets its name, otherwise: after the window.
    if (Buffer.byteLength(basename(output)) > MAX_NAME_BYTES)
      bad('output', output, `a file name of at most ${MAX_NAME_BYTES} bytes`);
  }
  if (options.compress !== undefined && !['gzip', 'zstd'].includes(options.compress))
    bad('compress', options.compress, 'gzip or zstd');
  optional('cgroup', options.cgroup, requirePath);
  optional('placeGuardianIn', options.placeGuardianIn, requirePath);
  optional('criuLog', options.criuLog, requirePath);
  optional('stateDir', options.stateDir, requirePath);
  refuseAdoptedCgroup(options);
  for (const tree of options.files ?? []) checkTree(tree);
  checkNames(options.files ?? []);
  if (options.program !== undefined && parseOrigin(options.program) === undefined)
    bad('program', options.program, 'what start() or findProgram() gave');
  const filesInUse = flag('filesInUse', options.filesInUse, false);
  if (filesInUse && options.parts !== undefined)
    bad('filesInUse', true, 'a plain tree: a container is restored without files outside of it');
  if (options.onFrozen !== undefined && typeof options.onFrozen !== 'function')
    bad('onFrozen', options.onFrozen, 'a function');
  requireRoot('a checkpoint');
  const overwrite = flag('overwrite', options.overwrite, false);
  const outputPath = output instanceof Writable ? undefined : resolve(output);
  optional('workDir', options.workDir, requirePath);
  const workDir = options.workDir === undefined ? undefined : resolve(options.workDir);
  const diskDir = workDir ?? (outputPath === undefined ? tmpdir() : dirname(outputPath));
  const place =
    output instanceof Writable ? { output, stagingDir: diskDir } : { outputPath: resolve(output), overwrite };
  return {
    outputPath,
    writer: { ...place, compress: options.compress },
    stop: flag('stop', options.stop, false),
    filesInUse,
    strict: flag('strict', options.strict, false),
    precopy: flag('precopy', options.precopy, true),
    watchFromMs: options.watchFromMs === Infinity ? Infinity : milliseconds('watchFromMs', options.watchFromMs, 20),
    preDump: options.preDump === undefined ? undefined : checkPreDump(options.preDump),
    workDir,
    diskDir,
    criuLog: options.criuLog,
    criuHelpers: flag('criuHelpers', options.criuHelpers, true),
    criuStartTimeoutMs: milliseconds('criuStartTimeoutMs', options.criuStartTimeoutMs, 30_000),
    retries: options.parts?.together === undefined ? count('retries', options.retries, 2) : 0,
    ...windowSettings(options),
  };
}

export interface RestoreSettings {
  source: ArchiveSource;
  /** How it is named. */
  archive: string;
  /** Where there is room for as much as it holds, if nobody says another place. */
  besideArchive: string;
  files: Record<string, string>;
  replaceFiles: 'keep' | 'remove' | undefined;
  cgroup: string | undefined;
  workDir: string | undefined;
  stateDir: string;
  placeGuardianIn: string | undefined;
  lazyPages: boolean;
  clone: CloneSettings | undefined;
  replaceAddresses: readonly AddressReplacement[];
  strict: boolean;
  terminal: number | undefined;
  criuLog: string | undefined;
  pidTimeoutMs: number;
  thawTimeoutMs: number;
}

/** @throws CheckpointError BAD_OPTION, NOT_ROOT: before anything is touched */
export function checkRestoreOptions(options: RestoreOptions): RestoreSettings {
  requireSource('archive', options.archive);
  optional('cgroup', options.cgroup, requirePath);
  optional('criuLog', options.criuLog, requirePath);
  const files = Object.fromEntries(
    Object.entries(options.files ?? {}).map(([name, path]) => {
      requirePath(`files[${JSON.stringify(name)}]`, path);
      return [name, resolve(path)];
    }),
  );
  const { replaceFiles } = options;
  if (replaceFiles !== undefined && !['keep', 'remove'].includes(replaceFiles))
    bad('replaceFiles', replaceFiles, 'keep or remove');
  optional('stateDir', options.stateDir, requirePath);
  optional('placeGuardianIn', options.placeGuardianIn, requirePath);
  optional('terminal', options.terminal, (option, value) => count(option, value, 0));
  const clone = checkCloneOptions(options.clone);
  if (clone !== undefined && replaceFiles !== undefined)
    bad('replaceFiles', replaceFiles, 'no copy beside it: a copy replaces nothing');
  if (clone !== undefined && options.name !== undefined)
    bad('name', options.name, 'no copy beside it: copies have no names');
  if (clone !== undefined && options.lazyPages === true) bad('lazyPages', true, 'no copy beside it');
  if (options.onBeforeResume !== undefined && typeof options.onBeforeResume !== 'function')
    bad('onBeforeResume', options.onBeforeResume, 'a function');
  const replaceAddresses = checkAddresses(options.replaceAddresses);
  requireRoot('a restore');
  const source = typeof options.archive === 'string' ? resolve(options.archive) : options.archive;
  return {
    source,
    archive: options.archiveName ?? nameOfSource(source),
    besideArchive: typeof source === 'string' ? dirname(source) : existsSync('/var/tmp') ? '/var/tmp' : tmpdir(),
    files,
    replaceFiles,
    cgroup: options.cgroup === undefined ? undefined : resolve(options.cgroup),
    workDir: options.workDir === undefined ? undefined : resolve(options.workDir),
    stateDir: resolve(options.stateDir ?? STATE_DIR),
    placeGuardianIn: options.placeGuardianIn,
    lazyPages: flag('lazyPages', options.lazyPages, false),
    clone,
    replaceAddresses,
    strict: flag('strict', options.strict, false),
    terminal: options.terminal,
    criuLog: options.criuLog,
    pidTimeoutMs: milliseconds('pidTimeoutMs', options.pidTimeoutMs, 10_000),
    thawTimeoutMs: milliseconds('thawTimeoutMs', options.thawTimeoutMs, 5000),
  };
}

function checkPreDump(plan: PreDumpPlan): PreDumpPlan {
  const expected = '{ rounds } or { untilBelowBytes, maxRounds }, each a whole number above 0';
  const names =
    typeof plan === 'object' && (plan as PreDumpPlan | null) !== null ? Object.keys(plan).sort().join() : '';
  if (!['rounds', 'untilBelowBytes', 'maxRounds,untilBelowBytes'].includes(names)) bad('preDump', plan, expected);
  const numbers = 'rounds' in plan ? [plan.rounds] : [plan.untilBelowBytes, plan.maxRounds ?? 1];
  if (!numbers.every((number) => Number.isSafeInteger(number) && number > 0)) bad('preDump', plan, expected);
  return plan;
}

function checkTree({ path, name, exclude = [] }: FileTree): void {
  requirePath('files[].path', path);
  checkExclude(exclude);
  const segments = name.split('/');
  if (
    name === '' ||
    name.startsWith('/') ||
    name.includes('\0') ||
    segments.some((s) => s === '' || s === '.' || s === '..')
  ) {
    bad('files[].name', name, "a relative name without '.', '..' or empty parts");
  }
  if (segments[0] === 'checkpoint' || segments[0] === 'stillframe')
    bad(
      'files[].name',
      name,
      'a name that does not begin with checkpoint/ or stillframe/, which the archive itself uses',
    );
}

function checkExclude(exclude: FileTree['exclude'] & {}): void {
  if (!Array.isArray(exclude)) bad('files[].exclude', exclude, 'a list of patterns');
  const patterns = exclude.map((pattern: unknown) => {
    if (typeof pattern !== 'string' && !(pattern instanceof Uint8Array)) bad('files[].exclude', pattern, 'a pattern');
    return Buffer.from(pattern as string).toString('latin1');
  });
  for (const pattern of patterns) {
    const expected = whyNoExclude(pattern);
    if (expected !== undefined) bad('files[].exclude', pattern, expected);
  }
  if (hasTooManyParts(patterns)) bad('files[].exclude', patterns, 'at most 256 components in all patterns together');
}

function checkNames(trees: FileTree[]): void {
  for (const a of trees) {
    for (const b of trees) {
      if (a !== b && (a.name === b.name || b.name.startsWith(`${a.name}/`)))
        bad('files[].name', b.name, `a name apart from that of ${a.path} (${a.name})`);
    }
  }
}
