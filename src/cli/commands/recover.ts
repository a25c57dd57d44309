import { Command } from 'commander';

export function recoverCommand(): Command {
  return new Command('recover')
    .description(
      'Clean up after checkpoints and restores that were killed: frozen cgroups, moved tasks, unfinished trees, temporary files.',
    )
    .option('--state-dir <dir>', 'directory of journals and locks (default /run/stillframe)')
    .option('--json', 'print what was done as JSON')
    .addHelpText(
      'after',
      '\nNeeded only if a checkpoint or restore and its guardian were both killed. Running ones are left alone.\n\nExit status: 0 if nothing is left behind, 1 if something could not be cleaned up (its journal\nstays, so that recover can be run again). Journals of another version, and damaged ones, are named on stderr: 1, too,\nif the process that wrote them has ended.\n\nExample:\n  sudo stillframe recover',
    )
    .action(async (options: { stateDir?: string; json?: boolean }) =>
      (await import('../actions/recover.js')).recoverAction(options),
    );
}
