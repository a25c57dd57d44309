import { Command } from 'commander';
import { inspect, verify, type InspectOptions } from '../../index.js';
import { byteCount } from '../arguments.js';
import { archiveOf } from '../standard-input.js';
import { JsonView, TextView } from '../inspection-view.js';
import { bytes, json, LongOutput, print, ReaderGone } from '../output.js';
import { checkpointCommand } from './checkpoint.js';

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
    .action(async (argument: string, options: { members?: boolean; maxUnpackedBytes?: number; json?: boolean }) => {
      await using source = await archiveOf(argument);
      const { maxUnpackedBytes, json: asJson = false, members: listMembers = false } = options;
      const { archiveName } = source;
      const output = new LongOutput();
      const view = asJson ? new JsonView() : new TextView(listMembers, checkpointCommand(signal));
      const onMember: InspectOptions['onMember'] = (member) => output.add(view.member(member));
      try {
        const inspection = await inspect(source.archive, { archiveName, signal, maxUnpackedBytes, onMember });
        await output.add(view.end(inspection));
        await output.flush();
      } catch (error) {
        if (!(error instanceof ReaderGone)) throw error;
      }
    });
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
    .action(async (argument: string, options: { maxUnpackedBytes?: number; json?: boolean }) => {
      await using source = await archiveOf(argument);
      const { maxUnpackedBytes } = options;
      const { archiveName } = source;
      const verified = await verify(source.archive, { archiveName, signal, maxUnpackedBytes });
      const { archivePath, members, bytes: size } = verified;
      print(
        options.json === true
          ? json({ archivePath, members, bytes: size })
          : `${archivePath}: ${members} members, ${bytes(size)}: every byte verified`,
      );
    });
}
