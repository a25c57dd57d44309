import { Command, InvalidArgumentError } from 'commander';
import { checkpointPod, type ContainerName } from '../../index.js';
import { collect, duration, required } from '../arguments.js';
import { facts, json, milliseconds, print } from '../output.js';
import { table } from '../table.js';
import { warningsText } from '../warnings.js';

interface Options {
  runc?: string[];
  crun?: string[];
  podman?: string[];
  parentCgroup?: string;
  stateRoot?: string;
  output: string;
  stop?: boolean;
  maxFrozen?: number;
  stateDir?: string;
  strict?: boolean;
  json?: boolean;
}

export function podCommand(signal: AbortSignal): Command {
  return new Command('pod')
    .description('Checkpoint several containers at one instant: all are frozen before the first is dumped.')
    .option('--runc <id>', 'a runc container; may be repeated', collect)
    .option('--crun <id>', 'a crun container; may be repeated', collect)
    .option('--podman <name>', 'a Podman container; may be repeated', collect)
    .option('--parent-cgroup <dir>', 'all runc and crun containers below this cgroup')
    .option('--state-root <dir>', "the runtime's state directory, its --root (default: searched for)")
    .option('--output <dir>', 'the directory to create, with one archive per container and pod.json')
    .option('--stop', 'end all of them once the archives are safe on disk (default: they keep running)')
    .option('--max-frozen <time>', 'cancel the checkpoint if they would stay frozen for longer', duration)
    .option('--state-dir <dir>', 'directory of journals and locks (default /run/stillframe)')
    .option('--strict', 'turn warnings, such as files in use that are not archived, into a refusal')
    .option('--json', 'print the report as JSON')
    .addHelpText('after', '\nExample:\n  stillframe pod --podman web --podman db --output shop')
    .action(
      async (
        {
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
          json: asJson,
        }: Options,
        command: Command,
      ) => {
        required<string>(output, '--output <dir>');
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
          outputDir: output,
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
          asJson === true
            ? json(report)
            : `${warningsText(
                report.containers.flatMap(({ warnings }) => warnings),
                command,
              )}${facts([
                ['directory', report.directory],
                ['containers', rows.length],
              ])}\n\n${table(['container', 'archive', 'frozen window'], rows)}`;
        print(text);
      },
    );
}
