import { Command } from 'commander';
import type { ReadFlags } from '../actions/inspect.js';
import { byteCount } from '../arguments.js';

export function inspectCommand(signal: AbortSignal): Command {
  return new Command('inspect')
    .description('Show what an archive contains, without verifying it.')
    .argument('<archive>', 'a path; - for the standard input')
    .option('--members', 'list every member')
    .option('--max-unpacked-bytes <size>', 'size limit of a compressed archive or a stream (default: 1 TiB)', byteCount)
    .option('--json', 'print everything as JSON')
    .addHelpText(
      'after',
      '\nNothing is unpacked to a disk.\n\nExamples:\n  stillframe inspect app.tar --members\n  ssh host cat app.tar.gz | stillframe inspect -',
    )
    .action(async (argument: string, options: ReadFlags & { members?: boolean }) =>
      (await import('../actions/inspect.js')).inspectAction(argument, options, signal),
    );
}

export function verifyCommand(signal: AbortSignal): Command {
  return new Command('verify')
    .description('Check every byte of an archive against its manifest.')
    .argument('<archive>', 'a path; - for the standard input')
    .option(
      '--max-unpacked-bytes <size>',
      'size limit for unpacking a compressed archive (default: 90 % of the free space)',
      byteCount,
    )
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      '\nIf the archive is damaged: exit status 1, and the damaged member is named.\n\nExample:\n  stillframe verify app.tar && scp app.tar other:',
    )
    .action(async (argument: string, options: ReadFlags) =>
      (await import('../actions/inspect.js')).verifyAction(argument, options, signal),
    );
}
