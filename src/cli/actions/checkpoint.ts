import { InvalidArgumentError, type Command } from 'commander';
import {
  checkpoint,
  checkpointContainer,
  ContainerError,
  containerOf,
  findProgram,
  planCheckpoint,
  planContainerCheckpoint,
  ServiceManager,
  writeImage,
  type CheckpointPlan,
  type CheckpointReport,
  type CheckpointOptions,
  type ContainerCheckpointReport,
  type ContainerName,
  type ContainerTargetOptions,
  type FileTree,
  type PhaseEvent,
  type PreDumpPlan,
  type Target,
  type WarningEvent,
  type WindowEvent,
} from '../../index.js';
import { required } from '../arguments.js';
import { containerName, refuseBeside, type ContainerOptions } from '../container-options.js';
import type { CriuFlags } from '../criu-flags.js';
import { criuFlags, criuOptions } from '../criu-options.js';
import { EventLog } from '../event-log.js';
import { bytes, facts, json, leftOutFacts, milliseconds } from '../output.js';
import { planText } from '../plan-text.js';
import { ProgressLine } from '../progress.js';
import { EXIT_FAILED } from '../exit-status.js';
import { print, printError } from '../streams.js';
import { warningsText } from '../warnings.js';

type Report = CheckpointReport & Partial<Pick<ContainerCheckpointReport, 'leftOut'>> & { image?: unknown };

type CheckpointTree = Pick<CheckpointOptions, keyof Target>;

/** What commander hands over. */
export interface CheckpointFlags extends ContainerOptions, CriuFlags {
  pid?: number;
  name?: string;
  cgroup?: string;
  freezer?: 1 | 2;
  adopt?: boolean;
  files?: [name: string, path: string][];
  exclude?: string[];
  output?: string;
  every?: number;
  keep?: number;
  dryRun?: boolean;
  overwrite?: boolean;
  compress?: 'gzip' | 'zstd';
  stop?: boolean;
  precopy: boolean;
  criuHelpers: boolean;
  watch: boolean;
  preDump?: number;
  preDumpUntil?: number;
  workDir?: string;
  criuLog?: string;
  freezeTimeout?: number;
  maxFrozen?: number;
  criuStartTimeout?: number;
  placeGuardianIn?: string;
  retries?: number;
  stateDir?: string;
  events?: string;
  notify?: boolean;
  wholeRootfs?: boolean;
  oci?: string;
  filesInUse?: boolean;
  strict?: boolean;
  json?: boolean;
}

export async function checkpointAction(options: CheckpointFlags, signal: AbortSignal, command: Command): Promise<void> {
  if (options.every !== undefined)
    return (await import('./checkpoint-every.js')).checkpointEveryAction({ ...options, every: options.every }, command);
  refuseBeside('a single checkpoint', options, ['keep']);
  await (options.dryRun === true ? dryRun(options, signal, command) : run(options, signal, command));
}

async function dryRun(options: CheckpointFlags, signal: AbortSignal, command: Command): Promise<void> {
  const common = { ...commonOptions(options, signal), output: options.output };
  const { container, tree } = await targetOf(options);
  const plan: CheckpointPlan & { leftOut?: ContainerCheckpointReport['leftOut'] } =
    container !== undefined
      ? await planContainerCheckpoint({ ...common, ...container })
      : await planCheckpoint({ ...common, ...tree });
  print(options.json === true ? json(plan) : `${warningsText(plan.warnings, command)}${planText(plan, command)}`);
  if (plan.refusals.length > 0) process.exitCode = EXIT_FAILED;
}

async function run(options: CheckpointFlags, signal: AbortSignal, command: Command): Promise<void> {
  const output = required(options.output, '--output <file>');
  const progress = new ProgressLine();
  using events = options.events === undefined ? undefined : new EventLog(options.events);
  using manager = options.notify === true ? ServiceManager.connect() : undefined;
  let report: Report;
  try {
    const common = {
      ...commonOptions(options, signal),
      output: output === '-' ? process.stdout : output,
      onProgress: (event: PhaseEvent) => {
        progress.update(event);
        events?.write(event);
        manager?.follow(event);
      },
      onWindow: (event: WindowEvent) => events?.writeWindow(event),
      onWarning: (event: WarningEvent) => events?.writeWarning(event),
    };
    const { container, tree } = await targetOf(options);
    if (container !== undefined) {
      report = await checkpointContainer({ ...common, ...container });
      if (options.oci !== undefined)
        report.image = await writeImage({ archive: output, directory: options.oci, signal });
    } else report = await checkpoint({ ...common, ...tree });
  } finally {
    progress.stop();
  }
  // The archive itself may be on stdout.
  const words = output === '-' ? printError : print;
  words(options.json === true ? json(report) : `${warningsText(report.warnings, command)}${reportText(report)}`);
}

export function commonOptions(options: CheckpointFlags, signal: AbortSignal) {
  return {
    compress: options.compress ?? compressionOf(options.output ?? ''),
    precopy: options.precopy,
    ...(options.watch ? {} : { watchFromMs: Infinity }),
    preDump: preDumpPlan(options),
    signal,
    filesInUse: options.filesInUse,
    strict: options.strict,
    stop: options.stop,
    overwrite: options.overwrite,
    workDir: options.workDir,
    criuLog: options.criuLog,
    criuHelpers: options.criuHelpers,
    freezeTimeoutMs: options.freezeTimeout,
    maxFrozenMs: options.maxFrozen,
    criuStartTimeoutMs: options.criuStartTimeout,
    placeGuardianIn: options.placeGuardianIn,
    retries: options.retries,
    stateDir: options.stateDir,
    criu: criuOptions(criuFlags(options)),
  };
}

/** What the options name: a container, or a process tree. */
export async function targetOf(
  options: CheckpointFlags,
): Promise<
  | { container: ContainerName & ContainerTargetOptions; tree?: undefined }
  | { container?: undefined; tree: CheckpointTree }
> {
  const name = containerName(options);
  if (name !== undefined) {
    if (options.output === '-') refuseBeside('--output -', options, ['oci']);
    refuseBeside('a container', options, ['pid', 'name', 'cgroup', 'freezer', 'adopt', 'files', 'exclude']);
    return { container: { ...name, wholeRootfs: options.wholeRootfs } };
  }
  const { pid, cgroup, adopt, freezer: cgroupVersion } = options;
  if (options.name !== undefined) return { tree: namedTree(options.name, options) };
  if (pid === undefined)
    throw new InvalidArgumentError('Specify what to checkpoint: --pid, --name, --runc, --crun or --podman.');
  refuseBeside('--pid', options, ['stateRoot', 'bundle', 'wholeRootfs', 'oci']);
  const container = await containerOf(pid);
  if (container !== undefined) throw new ContainerError('PID_IN_CONTAINER', { pid, ...container });
  return { tree: { pid, files: treesOf(options), cgroup, cgroupVersion, adopt } };
}

/** A program that has a name, with the files that it was started with unless there are others. */
function namedTree(name: string, options: CheckpointFlags): CheckpointTree {
  refuseBeside('--name', options, ['pid', 'cgroup', 'freezer', 'adopt', 'stateRoot', 'bundle', 'wholeRootfs', 'oci']);
  const { target } = findProgram(name, { stateDir: options.stateDir });
  const files = treesOf({ files: target.files?.map((tree) => [tree.name, tree.path]), ...options });
  return { ...target, files };
}

function treesOf({ files: named = [], exclude }: Pick<CheckpointFlags, 'files' | 'exclude'>): FileTree[] {
  if (exclude !== undefined && named.length === 0)
    throw new InvalidArgumentError('--exclude needs --files: it names what is left out of these.');
  return named.map(([name, path]) => ({ path, name, exclude }));
}

/** As the name of the archive says: what calls itself x.tar.gz had better be one. */
function compressionOf(output: string): 'gzip' | 'zstd' | undefined {
  if (/\.(?:tgz|gz)$/.test(output)) return 'gzip';
  return /\.(?:tzst|zst)$/.test(output) ? 'zstd' : undefined;
}

function preDumpPlan({ preDump: rounds, preDumpUntil: untilBelowBytes }: CheckpointFlags): PreDumpPlan | undefined {
  if (untilBelowBytes !== undefined) return { untilBelowBytes, ...(rounds === undefined ? {} : { maxRounds: rounds }) };
  return rounds === undefined ? undefined : { rounds };
}

function reportText(report: Report): string {
  const { criuStats: stats, preDumps } = report;
  return facts([
    ['archive', `${report.archivePath ?? 'written to stdout'} (${bytes(report.archiveBytes)})`],
    ...(report.image === undefined
      ? []
      : ([['OCI image', (report.image as { directory: string }).directory]] as const)),
    ['processes', report.pids.length],
    [
      'frozen window',
      `${milliseconds(report.windowMs)}${report.attempts === 1 ? '' : ` (attempt ${report.attempts}: CRIU refused the earlier ones)`}`,
    ],
    ...(stats === undefined
      ? []
      : ([['  of which CRIU', milliseconds((stats.freezingTimeUs + stats.frozenTimeUs) / 1000)]] as const)),
    ...(preDumps.length === 0
      ? []
      : ([['pre-dumped memory', preDumps.map(({ writtenBytes }) => bytes(writtenBytes)).join(', ')]] as const)),
    ['files copied before', `${report.files.precopied.files} (${bytes(report.files.precopied.bytes)})`],
    ['files copied frozen', `${report.files.refreshed.files} (${bytes(report.files.refreshed.bytes)})`],
    ['total time', milliseconds(report.totalMs)],
    [
      'the tree',
      report.stopped ? 'was ended' : report.foundFrozen ? 'is still frozen, as it was found' : 'is running (verified)',
    ],
    ...leftOutFacts(report.leftOut ?? []),
    ...(report.needsTerminal ? ([['restore it', 'in a terminal: its own is outside the tree']] as const) : []),
  ]);
}
