import { InvalidArgumentError, type Command } from 'commander';
import { checkpointPod, type ContainerName } from '../../index.js';
import { required } from '../arguments.js';
import { facts, json, milliseconds } from '../output.js';
import { table } from '../table.js';
import { print } from '../streams.js';
import { warningsText } from '../warnings.js';

/** What commander hands over. */
export interface PodFlags {
  runc?: string[];
  crun?: string[];
  podman?: string[];
  parentCgroup?: string;
  stateRoot?: string;
  output?: string;
  stop?: boolean;
  maxFrozen?: number;
  stateDir?: string;
  strict?: boolean;
  json?: boolean;
}

export async function podAction(options: PodFlags, signal: AbortSignal, command: Command): Promise<void> {
  const {
    runc = [],
    crun = [],
    podman = [],
    parentCgroup,
    stateRoot,
    output,
    stop,
    maxFrozen,
    stateDir,
    strict,
  } = options;
  const outputDir = required(output, '--output <dir>');
  if (parentCgroup === undefined && runc.length + crun.length + podman.length === 0)
    throw new InvalidArgumentError('Specify the containers: --runc, --crun, --podman or --parent-cgroup.');
  const where = stateRoot === undefined ? {} : { stateRoot };
  const containers: ContainerName[] = [
    ...runc.map((id) => ({ runc: id, ...where })),
    ...crun.map((id) => ({ crun: id, ...where })),
    ...podman.map((name) => ({ podman: name })),
  ];
  const report = await checkpointPod({
    ...(parentCgroup === undefined
      ? { containers }
      : { parentCgroup, ...where, ...(containers.length === 0 ? {} : { containers }) }),
    outputDir,
    stop,
    maxFrozenMs: maxFrozen,
    stateDir,
    strict,
    signal,
  });
  const rows = report.containers.map(({ container, archivePath, windowMs }) => [
    container.name,
    archivePath ?? '',
    milliseconds(windowMs),
  ]);
  const text =
    options.json === true
      ? json(report)
      : `${warningsText(
          report.containers.flatMap(({ warnings }) => warnings),
          command,
        )}${facts([
          ['directory', report.directory],
          ['containers', rows.length],
        ])}\n\n${table(['container', 'archive', 'frozen window'], rows)}`;
  print(text);
}
