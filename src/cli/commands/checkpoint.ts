import { Command, InvalidArgumentError, Option } from 'commander';
import {
  checkpoint,
  checkpointContainer,
  ContainerError,
  containerOf,
  ServiceManager,
  writeImage,
  type CheckpointReport,
  type ContainerCheckpointReport,
  type PhaseEvent,
  type PreDumpPlan,
  type WarningEvent,
  type WindowEvent,
} from '../../index.js';
import { byteCount, cgroupVersion, duration, positiveInteger, tree, wholeNumber } from '../arguments.js';
import { containerName, refuseBeside, type ContainerOptions } from '../container-options.js';
import { addDumpFlags, criuFlags, criuOptions, type CriuFlags } from '../criu-options.js';
import { EventLog } from '../event-log.js';
import { bytes, facts, json, leftOutFacts, milliseconds, print, printError } from '../output.js';
import { ProgressLine } from '../progress.js';
import { warningsText } from '../warnings.js';

type Report = CheckpointReport & Partial<Pick<ContainerCheckpointReport, 'leftOut'>> & { image?: unknown };

interface Options extends ContainerOptions, CriuFlags {
  pid?: number;
  cgroup?: string;
  freezer?: 1 | 2;
  adopt?: boolean;
  files?: [path: string, name: string][];
  output: string;
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
    .description('Checkpoint a process tree or a container, and its files, into one archive, while it runs.')
    .option('--pid <n>', 'root of the process tree', positiveInteger)
    .option('--runc <id>', "a runc container, also one of CRI-O's, containerd's or Docker's")
    .option('--crun <id>', 'a crun container')
    .option('--podman <name>', 'a Podman container')
    .option('--state-root <dir>', "the runtime's state directory, its --root (default: searched for)")
    .option('--bundle <dir>', "the container's bundle (default: the one its runtime knows)")
    .option('--whole-rootfs', "archive a container's whole root file system, where it is on no overlay")
    .option('--oci <dir>', 'write the checkpoint also as an OCI image layout, for a registry')
    .requiredOption('--output <file>', 'the archive to write; - for stdout')
    .option(
      '--files <dir=name>',
      'a directory or file to archive, and its name in the archive (default: its own); may be repeated',
      tree,
    )
    .option('--cgroup <dir>', "the tree's freezer cgroup (default: found from the pid)")
    .option('--freezer <v1|v2>', 'which freezer, where the machine has both', cgroupVersion)
    .option('--adopt', 'move the tree into a cgroup of its own for the checkpoint, and back')
    .option('--stop', 'end the tree once the archive is safe on disk (default: it runs on)')
    .addOption(
      new Option(
        '--compress <how>',
        'compress the archive, after the window (default: as .gz or .zst of its name says)',
      ).choices(['gzip', 'zstd']),
    )
    .option('--overwrite', 'replace an existing archive')
    .option('--no-precopy', 'copy all files inside the frozen window')
    .option('--no-watch', 'look at every file inside the window, not only at those that the kernel says have changed')
    .option(
      '--pre-dump <rounds>',
      'write memory ahead so often, while the target runs; needs a kernel that tracks memory',
      positiveInteger,
    )
    .option(
      '--pre-dump-until <bytes>',
      'write memory ahead until a round wrote less, such as 16M; with --pre-dump so often at most (default 8)',
      byteCount,
    )
    .option(
      '--work-dir <dir>',
      "where CRIU's images are written first (default: /dev/shm when they fit with ease, else the archive's directory)",
    )
    .option('--freeze-timeout <time>', 'how long the freeze may take', duration)
    .option('--max-frozen <time>', 'cancel when the tree would stand still for longer', duration)
    .option(
      '--criu-start-timeout <time>',
      'give up when CRIU takes longer to get ready, while the tree runs (default 30s)',
      duration,
    )
    .option(
      '--place-guardian-in <dir>',
      'cgroup for the guardian, where a service manager would kill it with this command',
    )
    .option(
      '--retries <n>',
      'how often to try again when CRIU refuses at an instant that passes (default 2)',
      wholeNumber,
    )
    .option('--state-dir <dir>', 'where journals and locks are (default /run/stillframe)')
    .option(
      '--files-in-use',
      'archive every file, too, that the tree has open for writing or mapped shared and writable',
    )
    .option('--strict', 'refuse what would only be warned of, such as files in use that are not archived')
    .option('--events <file>', 'append every phase, frozen window and warning to this file, as JSON lines')
    .option('--notify', 'keep the service manager informed ($NOTIFY_SOCKET)')
    .option('--criu-log <file>', "where CRIU's log is kept when CRIU fails")
    .option('--json', 'print the report as JSON');
  return addDumpFlags(command)
    .addHelpText(
      'after',
      `
Examples:
  stillframe checkpoint --pid 4711 --files /srv/app/data=data --output app.tar
  stillframe checkpoint --podman web --output web.tar             for: podman container restore --import web.tar
  stillframe checkpoint --runc c1 --output c1.tar --oci c1-image  for: skopeo copy oci:c1-image docker://...
  stillframe checkpoint --pid 4711 --adopt --output app.tar       a tree that shares its cgroup with others
  stillframe checkpoint --pid 4711 --output - --compress gzip | ssh other 'cat > app.tar.gz'
  stillframe checkpoint --pid 4711 --stop --output app.tar        move it: end it here, restore it there
  stillframe checkpoint --pid 4711 --pre-dump-until 16M --output app.tar   of much memory: most of it while it runs`,
    )
    .action((options: Options, own: Command) => run(options, signal, own));
}

async function run(options: Options, signal: AbortSignal, command: Command): Promise<void> {
  const progress = new ProgressLine();
  using events = options.events === undefined ? undefined : new EventLog(options.events);
  using manager = options.notify === true ? ServiceManager.connect() : undefined;
  let report: Report;
  try {
    const common = {
      output: options.output === '-' ? process.stdout : options.output,
      compress: options.compress ?? compressionOf(options.output),
      precopy: options.precopy,
      ...(options.watch ? {} : { watchFromMs: Infinity }),
      preDump: preDumpPlan(options),
      signal,
      onProgress: (event: PhaseEvent) => {
        progress.update(event);
        events?.write(event);
        manager?.follow(event);
      },
      onWindow: (event: WindowEvent) => events?.writeWindow(event),
      onWarning: (event: WarningEvent) => events?.writeWarning(event),
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
    const container = containerName(options);
    if (container !== undefined) {
      if (options.output === '-') refuseBeside('--output -', options, ['oci']);
      refuseBeside('a container', options, ['pid', 'cgroup', 'freezer', 'adopt', 'files']);
      report = await checkpointContainer({ ...common, ...container, wholeRootfs: options.wholeRootfs });
      if (options.oci !== undefined)
        report.image = await writeImage({ archive: options.output, directory: options.oci, signal });
    } else {
      if (options.pid === undefined) throw new InvalidArgumentError('Say what: --pid, --runc, --crun or --podman.');
      refuseBeside('--pid', options, ['stateRoot', 'bundle', 'wholeRootfs', 'oci']);
      const container = await containerOf(options.pid);
      if (container !== undefined) throw new ContainerError('PID_IN_CONTAINER', { pid: options.pid, ...container });
      const files = (options.files ?? []).map(([path, name]) => ({ path, name }));
      report = await checkpoint({
        ...common,
        pid: options.pid,
        files,
        cgroup: options.cgroup,
        cgroupVersion: options.freezer,
        adopt: options.adopt,
      });
    }
  } finally {
    progress.stop();
  }
  // The archive itself may be on stdout.
  const words = options.output === '-' ? printError : print;
  words(options.json === true ? json(report) : `${warningsText(report.warnings, command)}${reportText(report)}`);
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
      `${milliseconds(report.windowMs)}${report.attempts === 1 ? '' : ` (attempt ${report.attempts}: CRIU refused those before it)`}`,
    ],
    ...(stats === undefined
      ? []
      : ([['  of which CRIU', milliseconds((stats.freezingTimeUs + stats.frozenTimeUs) / 1000)]] as const)),
    ...(preDumps.length === 0
      ? []
      : ([['memory before it', preDumps.map(({ writtenBytes }) => bytes(writtenBytes)).join(', ')]] as const)),
    ['files before it', `${report.files.precopied.files} (${bytes(report.files.precopied.bytes)})`],
    ['files inside it', `${report.files.refreshed.files} (${bytes(report.files.refreshed.bytes)})`],
    ['total time', milliseconds(report.totalMs)],
    [
      'the tree',
      report.stopped ? 'was ended' : report.foundFrozen ? 'is still frozen, as it was found' : 'runs on (verified)',
    ],
    ...leftOutFacts(report.leftOut ?? []),
    ...(report.needsTerminal ? ([['to be restored', 'in a terminal: its own is outside the tree']] as const) : []),
  ]);
}
