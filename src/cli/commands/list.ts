import { Command } from 'commander';
import type { ListFlags } from '../actions/list.js';

export function listCommand(signal: AbortSignal): Command {
  return new Command('list')
    .description('List the archives of a directory, the newest first, and whether they are whole.')
    .argument('<dir>', 'a directory of archives, such as that of checkpoint --every')
    .option('--json', 'print the list as JSON')
    .addHelpText(
      'after',
      `
An archive is "whole" if its end is there, with a manifest that has its own digest: its members are not verified, see
\`stillframe verify\`. A compressed archive is read to its end for that. Other files are counted and left alone.

Examples:
  stillframe list /var/lib/web/checkpoints
  stillframe restore --latest /var/lib/web/checkpoints --replace    the newest of them that verifies`,
    )
    .action(async (dir: string, options: ListFlags) =>
      (await import('../actions/list.js')).listAction(dir, options, signal),
    );
}
