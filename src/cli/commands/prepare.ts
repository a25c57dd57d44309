import { Command } from 'commander';
import type { PrepareFlags } from '../actions/prepare.js';
import { byteCount } from '../arguments.js';

export function prepareCommand(signal: AbortSignal): Command {
  return new Command('prepare')
    .description('Verify an archive and unpack it once, so that copies of its tree start at once.')
    .argument('<archive>', 'what `stillframe checkpoint` wrote; - for the standard input')
    .argument('<dir>', 'the directory to make: it must not exist, or be empty')
    .option('--work-dir <dir>', 'where a compressed archive is unpacked to be read (default: its directory)')
    .option(
      '--max-unpacked-bytes <size>',
      'size limit for unpacking a compressed archive (default: 90 % of the free space)',
      byteCount,
    )
    .option('--state-dir <dir>', 'directory of journals and locks (default /run/stillframe)')
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      `
Prints the directory. It appears whole, with mode 0700, or not at all; remove it with rm -r. It holds the memory of the
checkpointed tree. A file in it that changes is noticed before the directory is used.

Example:
  stillframe prepare app.tar /var/lib/app/warm`,
    )
    .action(async (archive: string, dir: string, options: PrepareFlags) =>
      (await import('../actions/prepare.js')).prepareAction(archive, dir, options, signal),
    );
}
