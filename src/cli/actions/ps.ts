import { listPrograms, type NamedProgram } from '../../index.js';
import { bytes, json } from '../output.js';
import { print } from '../streams.js';
import { table } from '../table.js';

/** The last column, in characters: a line is to fit. `--json` has all. */
const MOST_OF_COMMAND = 60;

export function psAction(options: { stateDir?: string; json?: boolean }): void {
  const programs = listPrograms({ stateDir: options.stateDir });
  if (options.json === true) print(json(programs));
  else if (programs.length === 0) print('no program was started by stillframe run');
  else
    print(
      table(
        ['name', 'pid', 'state', 'since', 'processes', 'memory', 'last checkpoint', 'cgroup', 'command'],
        programs.map(row),
      ),
    );
}

function row(program: NamedProgram): (string | number)[] {
  const { name, pid, since, processes, residentBytes, lastCheckpoint, cgroup, command } = program;
  return [
    ...[name, pid, stateOf(program), toSeconds(since), processes, bytes(residentBytes)],
    ...[
      lastCheckpoint === undefined ? '-' : toSeconds(lastCheckpoint.at),
      cgroup ?? '-',
      shortened(command.join(' ')) || '-',
    ],
  ];
}

/** ISO 8601, without the milliseconds. */
function toSeconds(time: string): string {
  return time.replace(/\.\d+Z$/, 'Z');
}

function shortened(command: string): string {
  return command.length <= MOST_OF_COMMAND ? command : `${command.slice(0, MOST_OF_COMMAND - 1)}…`;
}

function stateOf({ state, ended }: NamedProgram): string {
  return ended?.status === undefined ? state : `${state} (${ended.status})`;
}
