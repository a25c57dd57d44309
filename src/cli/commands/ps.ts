import { Command } from 'commander';

export function psCommand(): Command {
  return new Command('ps')
    .description('List the programs that were started by run, or restored with their names.')
    .option('--state-dir <dir>', 'directory of names, journals and locks (default /run/stillframe)')
    .option('--json', 'print the list as JSON')
    .addHelpText(
      'after',
      `
A program that has ended stays in the list until its name is used again, or the machine restarts. "rootless" is one whose
first process has ended while others of it live on: it cannot be checkpointed any more.

Example:
  sudo stillframe ps`,
    )
    .action(async (options: { stateDir?: string; json?: boolean }) =>
      (await import('../actions/ps.js')).psAction(options),
    );
}
