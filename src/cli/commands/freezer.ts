import { Command } from 'commander';
import type { FreezerFlags } from '../actions/freezer.js';
import { cgroupVersion, duration, positiveInteger } from '../arguments.js';
import { addWhileFlags, refuseWithoutWhile, WHILE_HELP, type WhileOptions } from './freeze-while.js';

export function freezeCommand(signal: AbortSignal): Command {
  const command = freezerCommand('freeze', 'Freeze a cgroup and wait until the kernel confirms it.', signal);
  return addWhileFlags(command)
    .addHelpText(
      'after',
      `\nOn a time-out the freeze is withdrawn and every task that did not freeze is named.\n\nExample:\n  stillframe freeze /sys/fs/cgroup/app\n${WHILE_HELP}`,
    )
    .action(async (first: string | undefined, rest: string[], options: FreezerFlags & WhileOptions) => {
      if (options.while === true) {
        const { freezeWhile } = await import('../actions/freeze-while.js');
        return freezeWhile(first === undefined ? rest : [first, ...rest], options, signal, command);
      }
      refuseWithoutWhile(rest, options);
      return (await import('../actions/freezer.js')).freezerAction(first, options, signal, command);
    });
}

export function thawCommand(signal: AbortSignal): Command {
  return freezerCommand('thaw', 'Thaw a cgroup and wait until the kernel confirms that it runs.', signal).addHelpText(
    'after',
    '\nA cgroup with a frozen ancestor stays frozen; the ancestor is then named.\n\nExample:\n  stillframe thaw --pid 4711',
  );
}

export function statusCommand(signal: AbortSignal): Command {
  return freezerCommand('status', 'Show whether a cgroup is frozen, and by whom.', signal)
    .option(
      '--all',
      'list every frozen cgroup of this machine, with its owner and since when (the default without arguments)',
    )
    .addHelpText('after', '\nExamples:\n  stillframe status --pid 4711 --json\n  stillframe status --all');
}

function freezerCommand(name: string, description: string, signal: AbortSignal): Command {
  const command = new Command(name)
    .description(description)
    .argument('[cgroup]', 'directory of the cgroup')
    .option('--pid <n>', 'the cgroup of this process', positiveInteger)
    .option('--name <name>', 'the cgroup of a program that was started by run')
    .option('--freezer <v1|v2>', 'the freezer to use, if the machine has both', cgroupVersion)
    .option('--state-dir <dir>', 'directory of names, journals and locks (default /run/stillframe)')
    .option('--json', 'print the state as JSON');
  if (name !== 'status') command.option('--timeout <time>', 'how long to wait for the kernel (default 2s)', duration);
  return command.action(async (cgroup: string | undefined, options: FreezerFlags, own: Command) =>
    (await import('../actions/freezer.js')).freezerAction(cgroup, options, signal, own),
  );
}
