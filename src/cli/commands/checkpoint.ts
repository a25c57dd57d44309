import { Command, InvalidArgumentError, Option } from 'commander';
import {
  checkpoint,
  checkpointContainer,
  ContainerError,
  containerOf,
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
  type PhaseEvent,
  type PreDumpPlan,
  type WarningEvent,
  type WindowEvent,
} from '../../index.js';
import {
  byteCount,
  cgroupVersion,
  collect,
  duration,
  positiveInteger,
  required,
  tree,
  wholeNumber,
} from '../arguments.js';
import { containerName, refuseBeside, type ContainerOptions } from '../container-options.js';
import { addDumpFlags, criuFlags, criuOptions, type CriuFlags } from '../criu-options.js';
import { EventLog } from '../event-log.js';
import { EXIT_FAILED } from '../exit-status.js';
import { bytes, facts, json, leftOutFacts, milliseconds, print, printError } from '../output.js';
import { planText } from '../plan-text.js';
import { ProgressLine } from '../progress.js';
import { warningsText } from '../warnings.js';

type Report = CheckpointReport & Partial<Pick<ContainerCheckpointReport, 'leftOut'>> & { image?: unknown };

interface Options extends ContainerOptions, CriuFlags {
  pid?: number;
  cgroup?: string;
  freezer?: 1 | 2;
  adopt?: boolean;
  files?: [name: string, path: string][];
  exclude?: string[];
  output?: string;
  dryRun?: boolean;
  overwrite?: boolean;
  compress?: 'gzip' | 'zstd';
  stop?: boolean;
  precopy: boolean;
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

export function checkpointCommand(signal: AbortSignal): Command {
  const command = new Command('checkpoint')
    .description('Checkpoint a running process tree or container, with its files, into one archive.')
    .option('--pid <n>', 'root of the process tree', positiveInteger)
    .option('--runc <id>', 'a runc container (including those run by CRI-O, containerd or Docker)')
    .option('--crun <id>', 'a crun container')
    .option('--podman <name>', 'a Podman container')
    .option('--state-root <dir>', "the runtime's state directory, its --root (default: searched for)")
    .option('--bundle <dir>', "the container's bundle (default: the one its runtime knows)")
    .option('--whole-rootfs', 'archive the entire root file system (for containers that do not use an overlay)')
    .option('--oci <dir>', 'also write the checkpoint as an OCI image layout, for a registry')
    .option('--output <file>', 'the archive to write; - for stdout')
    .option('--dry-run', 'say what the checkpoint would do, and touch nothing; exit status 1 if it would be refused')
    .option(
      '--files <name=dir>',
      'a directory or file to archive, and its name in the archive (DIR alone: its own); may be repeated',
      tree,
    )
    .option(
      '--exclude <glob>',
      "leave these files out: a path relative to each directory of --files, where * and ? stay within a component and ** is any number of them, such as cache or '**/*.log'; may be repeated",
      collect,
    )
    .option('--cgroup <dir>', "the tree's freezer cgroup (default: found from the pid)")
    .option('--freezer <v1|v2>', 'the freezer to use, if the machine has both', cgroupVersion)
    .option('--adopt', 'move the tree into its own cgroup for the checkpoint, and back afterwards')
    .option('--stop', 'end the tree once the archive is safe on disk (default: it keeps running)')
    .addOption(
      new Option(
        '--compress <how>',
        'compress the archive, after the thaw (default: by its extension, .gz or .zst)',
      ).choices(['gzip', 'zstd']),
    )
    .option('--overwrite', 'replace an existing archive')
    .option('--no-precopy', 'copy all files during the freeze')
    .option('--no-watch', 'look at every file during the freeze, not only at those that the kernel reports as changed')
    .option(
      '--pre-dump <rounds>',
      'number of pre-dump rounds to run before the freeze; needs a kernel that tracks memory',
      positiveInteger,
    )
    .option(
      '--pre-dump-until <bytes>',
      'repeat pre-dumps until a round writes less than this (e.g. 16M); --pre-dump sets the maximum number of rounds (default 8)',
      byteCount,
    )
    .option(
      '--work-dir <dir>',
      "where CRIU first writes its images (default: /dev/shm if they fit easily, else the archive's directory)",
    )
    .option('--freeze-timeout <time>', 'time limit for freezing all tasks', duration)
    .option('--max-frozen <time>', 'cancel the checkpoint if the tree would stay frozen for longer', duration)
    .option(
      '--criu-start-timeout <time>',
      'give up if CRIU takes longer to get ready; the tree keeps running meanwhile (default 30s)',
      duration,
    )
    .option(
      '--place-guardian-in <dir>',
      'cgroup for the guardian, for when a service manager would kill it together with this command',
    )
    .option('--retries <n>', 'number of retries if CRIU refuses for a transient reason (default 2)', wholeNumber)
    .option('--state-dir <dir>', 'directory of journals and locks (default /run/stillframe)')
    .option(
      '--files-in-use',
      'also archive every file that the tree has open for writing or mapped shared and writable',
    )
    .option('--strict', 'turn warnings, such as files in use that are not archived, into a refusal')
    .option('--events <file>', 'append every phase, frozen window and warning to this file, as JSON lines')
    .option('--notify', 'keep the service manager informed ($NOTIFY_SOCKET)')
    .option('--criu-log <file>', "where to keep CRIU's log if CRIU fails")
    .option('--json', 'print the report as JSON');
  return addDumpFlags(command)
    .addHelpText(
      'after',
      `
Examples:
  stillframe checkpoint --pid 4711 --files data=/srv/app/data --output app.tar
  stillframe checkpoint --pid 4711 --files /srv/app/data --dry-run  what would be archived, and for how long it would stand still
  stillframe checkpoint --pid 4711 --files /srv/app --exclude cache --exclude '**/*.log' --output app.tar
  stillframe checkpoint --podman web --output web.tar             for: podman container restore --import web.tar
  stillframe checkpoint --runc c1 --output c1.tar --oci c1-image  for: skopeo copy oci:c1-image docker://...
  stillframe checkpoint --pid 4711 --adopt --output app.tar       a tree that shares its cgroup with other processes
  stillframe checkpoint --pid 4711 --output - --compress gzip | ssh other 'cat > app.tar.gz'
  stillframe checkpoint --pid 4711 --stop --output app.tar        move it: end it here, restore it there
  stillframe checkpoint --pid 4711 --pre-dump-until 16M --output app.tar   for large memory: dump most of it before the freeze`,
    )
    .action((options: Options, own: Command) =>
      options.dryRun === true ? dryRun(options, signal, own) : run(options, signal, own),
    );
}

async function dryRun(options: Options, signal: AbortSignal, command: Command): Promise<void> {
  const common = { ...commonOptions(options, signal), output: options.output };
  const { container, tree } = await targetOf(options);
  const plan: CheckpointPlan & { leftOut?: ContainerCheckpointReport['leftOut'] } =
    container !== undefined
      ? await planContainerCheckpoint({ ...common, ...container })
      : await planCheckpoint({ ...common, ...tree });
  print(options.json === true ? json(plan) : `${warningsText(plan.warnings, command)}${planText(plan, command)}`);
  if (plan.refusals.length > 0) process.exitCode = EXIT_FAILED;
}

async function run(options: Options, signal: AbortSignal, command: Command): Promise<void> {
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

function commonOptions(options: Options, signal: AbortSignal) {
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
async function targetOf(
  options: Options,
): Promise<
  | { container: ContainerName & ContainerTargetOptions; tree?: undefined }
  | { container?: undefined; tree: Pick<CheckpointOptions, 'pid' | 'files' | 'cgroup' | 'cgroupVersion' | 'adopt'> }
> {
  const name = containerName(options);
  if (name !== undefined) {
    if (options.output === '-') refuseBeside('--output -', options, ['oci']);
    refuseBeside('a container', options, ['pid', 'cgroup', 'freezer', 'adopt', 'files', 'exclude']);
    return { container: { ...name, wholeRootfs: options.wholeRootfs } };
  }
  const { pid, cgroup, adopt, freezer: cgroupVersion } = options;
  if (pid === undefined)
    throw new InvalidArgumentError('Specify what to checkpoint: --pid, --runc, --crun or --podman.');
  refuseBeside('--pid', options, ['stateRoot', 'bundle', 'wholeRootfs', 'oci']);
  const container = await containerOf(pid);
  if (container !== undefined) throw new ContainerError('PID_IN_CONTAINER', { pid, ...container });
  const { files: named = [], exclude } = options;
  if (exclude !== undefined && named.length === 0)
    throw new InvalidArgumentError('--exclude needs --files: it names what is left out of these.');
  const files = named.map(([treeName, path]) => ({ path, name: treeName, exclude }));
  return { tree: { pid, files, cgroup, cgroupVersion, adopt } };
}

/** As the name of the archive says: what calls itself x.tar.gz had better be one. */
function compressionOf(output: string): 'gzip' | 'zstd' | undefined {
  if (/\.(?:tgz|gz)$/.test(output)) return 'gzip';
  return /\.(?:tzst|zst)$/.test(output) ? 'zstd' : undefined;
}

function preDumpPlan({ preDump: rounds, preDumpUntil: untilBelowBytes }: Options): PreDumpPlan | undefined {
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
