import { Command } from 'commander';
import { frozenCgroups, openFreezer, type Freezer, type FreezerState } from '../../index.js';
import { recoverCommandFor, STATE_DIR } from '../../state-dir.js';
import { cgroupVersion, duration, positiveInteger } from '../arguments.js';
import { facts, json, print } from '../output.js';
import { table } from '../table.js';
import { addWhileFlags, freezeWhile, refuseWithoutWhile, WHILE_HELP, type WhileOptions } from './freeze-while.js';

interface Options {
  pid?: number;
  freezer?: 1 | 2;
  timeout?: number;
  all?: boolean;
  stateDir?: string;
  json?: boolean;
}

export function freezeCommand(signal: AbortSignal): Command {
  const act: Act = async (freezer, timeout) => freezer.freeze({ ...timeout, signal });
  const command = freezerCommand('freeze', 'Freeze a cgroup and wait until the kernel confirms it.', act);
  return addWhileFlags(command)
    .addHelpText(
      'after',
      `\nOn a time-out the freeze is withdrawn and every task that did not freeze is named.\n\nExample:\n  stillframe freeze /sys/fs/cgroup/app\n${WHILE_HELP}`,
    )
    .action(async (first: string | undefined, rest: string[], options: Options & WhileOptions) => {
      if (options.while === true)
        return freezeWhile(first === undefined ? rest : [first, ...rest], options, signal, command);
      refuseWithoutWhile(rest, options);
      return runOnFreezer(command, act, first, options);
    });
}

export function thawCommand(): Command {
  return freezerCommand('thaw', 'Thaw a cgroup and wait until the kernel confirms that it runs.', (freezer, timeout) =>
    freezer.thaw(timeout),
  ).addHelpText(
    'after',
    '\nA cgroup with a frozen ancestor stays frozen; the ancestor is then named.\n\nExample:\n  stillframe thaw --pid 4711',
  );
}

export function statusCommand(): Command {
  const command = freezerCommand('status', 'Show whether a cgroup is frozen, and by whom.', () => Promise.resolve());
  return command
    .option('--state-dir <dir>', 'with --all: directory of journals and locks (default /run/stillframe)')
    .option(
      '--all',
      'list every frozen cgroup of this machine, with its owner and since when (the default without arguments)',
    )
    .addHelpText('after', '\nExamples:\n  stillframe status --pid 4711 --json\n  stillframe status --all');
}

async function printAllFrozen(asJson: boolean, stateDir: string | undefined): Promise<void> {
  const frozen = await frozenCgroups({ stateDir });
  if (asJson) print(json(frozen));
  else if (frozen.length === 0) print('no cgroup of this machine is frozen');
  else {
    const by = (owner: (typeof frozen)[number]['by']): string =>
      owner === undefined
        ? 'not by stillframe'
        : `stillframe ${owner.pid}${owner.targetPid === undefined ? '' : `, for ${owner.targetPid}`}${owner.isAlive ? '' : ` (dead: run ${recoverCommandFor(stateDir ?? STATE_DIR)})`}`;
    print(
      table(
        ['cgroup', 'freezer', 'frozen by', 'since'],
        frozen.map((f) => [f.path, `v${f.version}`, by(f.by), f.since ?? 'not known']),
      ),
    );
  }
}

type Act = (freezer: Freezer, timeout: { timeoutMs?: number }) => Promise<void>;

function freezerCommand(name: string, description: string, act: Act): Command {
  const command = new Command(name)
    .description(description)
    .argument('[cgroup]', 'directory of the cgroup')
    .option('--pid <n>', 'the cgroup of this process', positiveInteger)
    .option('--freezer <v1|v2>', 'the freezer to use, if the machine has both', cgroupVersion)
    .option('--json', 'print the state as JSON');
  if (name !== 'status') command.option('--timeout <time>', 'how long to wait for the kernel (default 2s)', duration);
  return command.action(async (cgroup: string | undefined, options: Options) => {
    if (options.all === true || (name === 'status' && cgroup === undefined && options.pid === undefined))
      await printAllFrozen(options.json === true, options.stateDir);
    else await runOnFreezer(command, act, cgroup, options);
  });
}

async function runOnFreezer(command: Command, act: Act, cgroup: string | undefined, options: Options): Promise<void> {
  if ((cgroup === undefined) === (options.pid === undefined)) command.error('error: give either a cgroup or --pid');
  const freezer = openFreezer(cgroup !== undefined ? { cgroup } : { pid: options.pid!, version: options.freezer });
  await act(freezer, { timeoutMs: options.timeout });
  print(
    options.json === true
      ? json({ cgroup: freezer.path, version: freezer.version, ...freezer.state() })
      : stateText(freezer, freezer.state()),
  );
}

function stateText(freezer: Freezer, state: FreezerState): string {
  return facts([
    ['cgroup', `${freezer.path} (v${freezer.version})`],
    ['frozen', state.frozen ? 'yes' : 'no'],
    [
      'asked for by',
      [
        ...(state.selfFrozen ? ['itself'] : []),
        ...(state.frozenAncestor === undefined ? [] : [`its ancestor ${state.frozenAncestor}`]),
      ].join(' and ') || 'nobody',
    ],
  ]);
}
