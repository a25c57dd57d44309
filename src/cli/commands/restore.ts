import { setTimeout as sleep } from 'node:timers/promises';
import { isatty } from 'node:tty';
import { Command } from 'commander';
import {
  HOST_SETTINGS,
  restore,
  restoreContainer,
  type ContainerRestoreReport,
  type HostSetting,
  type RestoreReport,
} from '../../index.js';
import { byteCount, hostSetting, duration, pair } from '../arguments.js';
import { addRestoreFlags, criuFlags, criuOptions, type CriuFlags } from '../criu-options.js';
import { containerName, refuseBeside, type ContainerOptions } from '../container-options.js';
import { facts, json, leftOutFacts, milliseconds, print, printError } from '../output.js';
import { ProgressLine } from '../progress.js';
import { warningsText } from '../warnings.js';

const WAIT_MS = 100;

interface Options extends ContainerOptions, CriuFlags {
  files?: [name: string, path: string][];
  cgroup?: string;
  workDir?: string;
  criuLog?: string;
  stateDir?: string;
  pidTimeout?: number;
  pod?: string;
  ignoreVolumes?: boolean;
  lazyPages?: boolean;
  keep?: HostSetting[];
  wait: boolean;
  maxUnpackedBytes?: number;
  strict?: boolean;
  json?: boolean;
}

export function restoreCommand(signal: AbortSignal): Command {
  const command = new Command('restore')
    .description('Verify an archive, put its files back and restore its process tree.')
    .argument('<archive>', 'what `stillframe checkpoint` wrote')
    .option('--files <name=dir>', 'where to put a file tree (default: where it was); may be repeated', pair)
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
  stillframe restore c1.tar --runc c2 --bundle /srv/bundles/c2
  stillframe restore c1.tar --runc c2 --bundle /srv/bundles/c2 --keep devices
  stillframe restore web.tar --podman web
  stillframe restore app.tar --lazy-pages                         for large memory: resume first, load memory later
  stillframe restore app.tar --files data=/srv/app/data --cgroup /sys/fs/cgroup/app`,
    )
    .action((archive: string, options: Options, own: Command) => run(archive, options, signal, own));
}

async function run(archive: string, options: Options, signal: AbortSignal, command: Command): Promise<void> {
  const progress = new ProgressLine();
  let report: RestoreReport | ContainerRestoreReport;
  try {
    const common = {
      archive,
      signal,
      onProgress: progress.update,
      workDir: options.workDir,
      stateDir: options.stateDir,
      maxUnpackedBytes: options.maxUnpackedBytes,
      strict: options.strict,
    };
    const container = containerName(options);
    if (container !== undefined) {
      refuseBeside('a container', options, [
        'files',
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
      report = await restoreContainer({ ...common, ...container, pod, ignoreVolumes, keep: options.keep });
    } else {
      refuseBeside('a process tree', options, ['bundle', 'stateRoot', 'keep', 'pod', 'ignoreVolumes']);
      report = await restore({
        ...common,
        files: Object.fromEntries(options.files ?? []),
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
  if (options.wait && 'hasTerminal' in report && report.hasTerminal) await ended(report.pid, signal);
}

/** The tree is no child of this process: the kernel does not tell it of its end. */
async function ended(pid: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await sleep(WAIT_MS, undefined, { signal }).catch(() => undefined);
  }
}

function ofTree(report: RestoreReport): [string, string | number][] {
  return [
    ['processes', report.pids.length],
    ['cgroup', report.cgroup ?? "this command's own"],
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
