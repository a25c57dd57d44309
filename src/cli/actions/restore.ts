import { isatty } from 'node:tty';
import { InvalidArgumentError, type Command } from 'commander';
import {
  type CloneOptions,
  restore,
  restoreContainer,
  type ContainerRestoreReport,
  type HostSetting,
  type PhaseEvent,
  type RestoreOptions,
  type RestoreReport,
  type SkippedArchive,
  withLatestArchive,
} from '../../index.js';
import type { CriuFlags } from '../criu-flags.js';
import { criuFlags, criuOptions } from '../criu-options.js';
import { exitStatusOf } from '../cancelled.js';
import { containerName, refuseBeside, type ContainerOptions } from '../container-options.js';
import { facts, json, leftOutFacts, milliseconds } from '../output.js';
import { EXIT_FAILED } from '../exit-status.js';
import { tellSkipped } from '../skipped.js';
import { print, printError } from '../streams.js';
import { archiveOf } from '../standard-input.js';
import { ProgressLine } from '../progress.js';
import { warningsText } from '../warnings.js';

/** What commander hands over. */
export interface RestoreFlags extends ContainerOptions, CriuFlags {
  latest?: string;
  files?: [name: string, path: string][];
  name?: string;
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
  clone?: boolean;
  net?: string;
  hostname?: string;
  count?: number;
  replaceAddress?: Record<string, string>;
  keep?: HostSetting[];
  wait?: boolean;
  maxUnpackedBytes?: number;
  strict?: boolean;
  json?: boolean;
}

export async function restoreAction(
  given: string | undefined,
  options: RestoreFlags,
  signal: AbortSignal,
  command: Command,
): Promise<void> {
  const { count, latest } = options;
  if (latest !== undefined && given !== undefined)
    throw new InvalidArgumentError('Give an archive, or --latest with a directory of archives.');
  if (latest === undefined && given === undefined)
    throw new InvalidArgumentError("missing required argument 'archive'");
  if (count !== undefined) {
    if (given === undefined) refuseBeside('--count', options, ['latest']);
    return await (await import('./copies.js')).copiesAction(given!, { ...options, count }, signal, command);
  }
  const progress = new ProgressLine();
  using wait = new LongWait();
  let report: (RestoreReport | ContainerRestoreReport) & { archivePath?: string; skipped?: SkippedArchive[] };
  try {
    const common = {
      signal,
      onProgress: (event: PhaseEvent) => {
        progress.update(event);
        wait.follow(event);
      },
      workDir: options.workDir,
      stateDir: options.stateDir,
      maxUnpackedBytes: options.maxUnpackedBytes,
      strict: options.strict,
    };
    const once = restoration(options, common);
    report = latest === undefined ? await once(given!) : await fromLatest(latest, once, signal);
  } finally {
    progress.stop();
  }
  if (options.json === true) print(json(report));
  else {
    print(String(report.pid));
    printError(
      `${warningsText(report.warnings, command)}${facts([
        ...(report.archivePath === undefined ? [] : ([['archive', report.archivePath]] as [string, string][])),
        ...('runtime' in report ? ofContainer(report) : ofTree(report)),
        ['total time', milliseconds(report.totalMs)],
      ])}`,
    );
  }
  if ('ended' in report && (options.wait ?? report.hasTerminal)) await waitForEnd(report, signal);
}

type Common = Pick<RestoreOptions, 'signal' | 'onProgress' | 'workDir' | 'stateDir' | 'maxUnpackedBytes' | 'strict'>;

type Restoration = (archive: string) => Promise<RestoreReport | ContainerRestoreReport>;

/**
 * The restore that the options ask for, of any archive.
 * @throws InvalidArgumentError
 */
function restoration(options: RestoreFlags, common: Common): Restoration {
  const container = containerName(options);
  if (container !== undefined) {
    if (options.wait === true) refuseBeside('a container', options, ['wait']);
    refuseBeside('a container', options, [
      'files',
      'name',
      'replace',
      'discardReplaced',
      'cgroup',
      'pidTimeout',
      'lazyPages',
      'clone',
      'net',
      'hostname',
      'replaceAddress',
      'criuLog',
      'tcpClose',
      'external',
      'criu',
    ]);
    if (container.podman === undefined) refuseBeside('--runc or --crun', options, ['pod', 'ignoreVolumes']);
    const { pod, ignoreVolumes, keep } = options;
    return async (archive) => {
      if (archive === '-') throw new InvalidArgumentError('A container is restored from a file: give its path.');
      return await restoreContainer({ ...common, archive, ...container, pod, ignoreVolumes, keep });
    };
  }
  refuseBeside('a process tree', options, ['bundle', 'stateRoot', 'keep', 'pod', 'ignoreVolumes']);
  const tree = {
    ...common,
    files: Object.fromEntries(options.files ?? []),
    ...replaceFiles(options),
    name: options.name,
    cgroup: options.cgroup,
    criuLog: options.criuLog,
    pidTimeoutMs: options.pidTimeout,
    lazyPages: options.lazyPages,
    criu: criuOptions(criuFlags(options)),
    replaceAddresses: options.replaceAddress,
    ...cloneOptions(options),
    ...(isatty(0) && options.clone !== true ? { terminal: 0 } : {}),
  };
  return async (argument) => {
    await using source = await archiveOf(argument);
    const { archive, archiveName } = source;
    return await restore({ ...tree, archive, archiveName });
  };
}

/** Of a directory the newest archive that verifies. */
async function fromLatest(dir: string, once: Restoration, signal: AbortSignal) {
  const { archive, result, skipped } = await withLatestArchive(dir, once, {
    signal,
    onSkipped: tellSkipped,
    mayPass: (error) => (error as { code?: unknown }).code === 'NOT_A_CONTAINER_CHECKPOINT',
  });
  return { ...result, archivePath: archive.path, skipped };
}

/** Says, where no progress is shown, what a restore waits for once that takes a while. */
class LongWait implements Disposable {
  #timer: NodeJS.Timeout | undefined;

  follow({ phase, at }: PhaseEvent): void {
    if (phase !== 'wait-pids' || at === 'progress' || process.stderr.isTTY) return;
    this[Symbol.dispose]();
    if (at === 'start')
      this.#timer = setTimeout(() => printError('stillframe: waiting for the process ids to become free'), 1000);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

/** Ends with the tree's own status; a signal to this command ends the waiting alone. */
async function waitForEnd({ pid, ended }: RestoreReport, signal: AbortSignal): Promise<void> {
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

function replaceFiles({ replace, discardReplaced }: RestoreFlags): { replaceFiles?: 'keep' | 'remove' } {
  if (discardReplaced === true && replace !== true)
    throw new InvalidArgumentError('--discard-replaced needs --replace.');
  return replace === true ? { replaceFiles: discardReplaced === true ? 'remove' : 'keep' } : {};
}

export function cloneOptions({ clone, net, hostname }: RestoreFlags): { clone?: CloneOptions } {
  if (clone !== true) {
    if (net !== undefined || hostname !== undefined)
      throw new InvalidArgumentError('--net and --hostname need --clone.');
    return {};
  }
  return { clone: { ...(net === undefined ? {} : { net }), ...(hostname === undefined ? {} : { hostname }) } };
}

function ofTree(report: RestoreReport): [string, string | number][] {
  return [
    ['processes', report.pids.length],
    ...(report.name === undefined ? [] : ([['name', report.name]] as [string, string][])),
    ['cgroup', report.cgroup ?? "this command's own"],
    ...ofCopy(report),
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

function ofCopy({ clone }: RestoreReport): [string, string | number][] {
  if (clone === undefined) return [];
  return [
    ['pid 1 of the copy', clone.init],
    ['its files', clone.files],
    ['its network', clone.net],
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
