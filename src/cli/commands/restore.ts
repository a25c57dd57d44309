import { isatty } from 'node:tty';
import { Command, InvalidArgumentError } from 'commander';
import {
  HOST_SETTINGS,
  restore,
  restoreContainer,
  type ContainerRestoreReport,
  type HostSetting,
  type RestoreReport,
} from '../../index.js';
import { byteCount, hostSetting, duration, tree } from '../arguments.js';
import { addRestoreFlags, criuFlags, criuOptions, type CriuFlags } from '../criu-options.js';
import { exitStatusOf } from '../cancelled.js';
import { containerName, refuseBeside, type ContainerOptions } from '../container-options.js';
import { EXIT_FAILED } from '../exit-status.js';
import { facts, json, leftOutFacts, milliseconds, print, printError } from '../output.js';
import { archiveOf } from '../standard-input.js';
import { ProgressLine } from '../progress.js';
import { warningsText } from '../warnings.js';

interface Options extends ContainerOptions, CriuFlags {
  files?: [name: string, path: string][];
  replace?: boolean;
  discardReplaced?: boolean;
  cgroup?: string;
  workDir?: string;
  criuLog?: string;
  stateDir?: string;
  pidTimeout?: number;
  pod?: string;
  ignoreVolumes?: boolean;
  lazyPages?: boolean;
  keep?: HostSetting[];
  wait?: boolean;
  maxUnpackedBytes?: number;
  strict?: boolean;
  json?: boolean;
}

export function restoreCommand(signal: AbortSignal): Command {
  const command = new Command('restore')
    .description('Verify an archive, put its files back and restore its process tree.')
    .argument('<archive>', 'what `stillframe checkpoint` wrote; - for the standard input')
    .option('--files <name=dir>', 'where to put a file tree (default: where it was); may be repeated', tree)
    .option('--replace', 'replace the files that are there, as after a crash; the old ones are kept under another name')
    .option('--discard-replaced', 'with --replace: delete the old files once the tree runs')
    .option('--cgroup <dir>', 'restore into this cgroup, created if missing (default: the recorded one)')
    .option('--runc <id>', 'restore a container with runc, under this id; needs --bundle')
    .option('--crun <id>', 'the same with crun')
    .option('--podman <name>', 'restore a container with Podman, under this name')
    .option('--pod <name>', 'with --podman: the pod to put the container into')
    .option('--ignore-volumes', 'with --podman: do not restore the contents of volumes')
    .option('--bundle <dir>', "the new container's bundle, with the image in its root file system")
    .option(
      '--keep <setting>',
      `without a config.json in the bundle: what to keep of the archive's own although it reaches out to this machine (${HOST_SETTINGS.join(', ')}); may be repeated`,
      hostSetting,
    )
    .option('--state-root <dir>', "the runtime's state directory, its --root (default: the runtime's own)")
    .option('--work-dir <dir>', "where CRIU's images are first unpacked (default: the archive's directory)")
    .option('--pid-timeout <time>', 'how long to wait for the old process ids to become free', duration)
    .option('--lazy-pages', 'resume before memory is loaded; pages are fetched on demand, the rest in the background')
    .option(
      '--wait',
      "wait until the tree's root ends, and exit with its status (128 and the number of a signal that ended it)",
    )
    .option('--no-wait', 'do not wait for the restored job; the shell regains the terminal at once')
    .option(
      '--max-unpacked-bytes <size>',
      'size limit for unpacking a compressed archive (default: 90 % of the free space)',
      byteCount,
    )
    .option('--strict', 'turn warnings, such as files that changed since the checkpoint, into a refusal')
    .option('--criu-log <file>', "where to keep CRIU's log if CRIU fails")
    .option('--state-dir <dir>', 'directory of journals and locks (default /run/stillframe)')
    .option('--json', 'print the report as JSON');
  return addRestoreFlags(command)
    .addHelpText(
      'after',
      `
Prints the pid of the restored tree's root. The archive is verified before anything is touched. With --lazy-pages it goes on
until all memory has been brought: end it before that, and the tree is ended too.

Examples:
  stillframe restore app.tar
  stillframe restore app.tar --replace                            after a crash, with the files still there
  stillframe restore c1.tar --runc c2 --bundle /srv/bundles/c2
  stillframe restore c1.tar --runc c2 --bundle /srv/bundles/c2 --keep devices
  stillframe restore web.tar --podman web
  ssh host cat app.tar.zst | stillframe restore -
  stillframe restore app.tar --wait                               as a service: exits as the restored program does
  stillframe restore app.tar --lazy-pages                         for large memory: resume first, load memory later
  stillframe restore app.tar --files data=/srv/app/data --cgroup /sys/fs/cgroup/app`,
    )
    .action((archive: string, options: Options, own: Command) => run(archive, options, signal, own));
}

async function run(argument: string, options: Options, signal: AbortSignal, command: Command): Promise<void> {
  const progress = new ProgressLine();
  let report: RestoreReport | ContainerRestoreReport;
  try {
    const common = {
      signal,
      onProgress: progress.update,
      workDir: options.workDir,
      stateDir: options.stateDir,
      maxUnpackedBytes: options.maxUnpackedBytes,
      strict: options.strict,
    };
    const container = containerName(options);
    if (container !== undefined) {
      if (options.wait === true) refuseBeside('a container', options, ['wait']);
      refuseBeside('a container', options, [
        'files',
        'replace',
        'discardReplaced',
        'cgroup',
        'pidTimeout',
        'lazyPages',
        'criuLog',
        'tcpClose',
        'external',
        'criu',
      ]);
      if (container.podman === undefined) refuseBeside('--runc or --crun', options, ['pod', 'ignoreVolumes']);
      const { pod, ignoreVolumes } = options;
      if (argument === '-') throw new InvalidArgumentError('A container is restored from a file: give its path.');
      report = await restoreContainer({
        ...common,
        archive: argument,
        ...container,
        pod,
        ignoreVolumes,
        keep: options.keep,
      });
    } else {
      refuseBeside('a process tree', options, ['bundle', 'stateRoot', 'keep', 'pod', 'ignoreVolumes']);
      await using source = await archiveOf(argument);
      const { archive, archiveName } = source;
      report = await restore({
        ...common,
        archive,
        archiveName,
        files: Object.fromEntries(options.files ?? []),
        ...replaceFiles(options),
        cgroup: options.cgroup,
        criuLog: options.criuLog,
        pidTimeoutMs: options.pidTimeout,
        lazyPages: options.lazyPages,
        criu: criuOptions(criuFlags(options)),
        ...(isatty(0) ? { terminal: 0 } : {}),
      });
    }
  } finally {
    progress.stop();
  }
  if (options.json === true) print(json(report));
  else {
    print(String(report.pid));
    printError(
      `${warningsText(report.warnings, command)}${facts([
        ...('name' in report ? ofContainer(report) : ofTree(report)),
        ['total time', milliseconds(report.totalMs)],
      ])}`,
    );
  }
  if ('ended' in report && (options.wait ?? report.hasTerminal)) await wait(report, signal);
}

/** Ends with the tree's own status; a signal to this command ends the waiting alone. */
async function wait({ pid, ended }: RestoreReport, signal: AbortSignal): Promise<void> {
  try {
    const { status } = await ended({ signal });
    if (status === undefined)
      printError('stillframe: the tree has ended; how, this kernel tells its parent alone (Linux 6.15: everybody)');
    process.exitCode = status ?? EXIT_FAILED;
  } catch (error) {
    if (!signal.aborted) throw error;
    printError(`stillframe: process ${pid} runs on`);
    process.exitCode = exitStatusOf(error, signal);
  }
}

function replaceFiles({ replace, discardReplaced }: Options): { replaceFiles?: 'keep' | 'remove' } {
  if (discardReplaced === true && replace !== true)
    throw new InvalidArgumentError('--discard-replaced needs --replace.');
  return replace === true ? { replaceFiles: discardReplaced === true ? 'remove' : 'keep' } : {};
}

function ofTree(report: RestoreReport): [string, string | number][] {
  return [
    ['processes', report.pids.length],
    ['cgroup', report.cgroup ?? "this command's own"],
    ...report.excluded.map(({ tree: name, patterns }): [string, string] => [
      'not archived',
      `${patterns.join(', ')} (excluded from ${name})`,
    ]),
    ...report.replaced.map(({ path, keptAs, problem }): [string, string] => [
      'replaced',
      `${path} (${keptAs === undefined ? 'the old files were deleted' : `the old files are now ${keptAs}`}${problem === undefined ? '' : `: ${problem}`})`,
    ]),
  ];
}

function ofContainer({ runtime, name, id, dropped, leftOut }: ContainerRestoreReport): [string, string | number][] {
  return [
    ['container', name === id ? name : `${name} (${id})`],
    ['runtime', runtime],
    ...leftOutFacts(leftOut),
    ...dropped.map(({ setting, what }): [string, string] => [
      'not taken over',
      setting === undefined ? `${what} (not known)` : `${what} (--keep ${setting})`,
    ]),
  ];
}
