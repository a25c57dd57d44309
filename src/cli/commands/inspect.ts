import { Command } from 'commander';
import type { InspectFlags, ReadFlags } from '../actions/inspect.js';
import { addressRange, byteCount, positiveInteger } from '../arguments.js';

export function inspectCommand(signal: AbortSignal): Command {
  return new Command('inspect')
    .description('Show what an archive contains, without verifying it.')
    .argument('<archive>', 'a path; - for the standard input')
    .option('--members', 'list every member')
    .option('--ps', 'show the process tree: users, arguments, threads, memory')
    .option('--files', 'show what each process had open, its executable and its directories')
    .option('--sockets', 'show the sockets of each process, with addresses and states')
    .option('--maps', 'show the mappings of each process: kind, bytes, bytes dumped, file')
    .option('--env', 'show the environment of each process, as it was at its start; it may hold passwords')
    .option('--mounts', 'show the mounts of a container')
    .option('--cgroup', 'show the cgroups of each process, and what was set in them')
    .option('--stats', "show CRIU's own figures of the dump")
    .option('--all', 'show the summary and all of these')
    .option('--html <file>', 'write a report for a browser, a page by itself, to this new file; - for stdout')
    .option('--pid <pid>', 'of the processes show this one, and those below it', positiveInteger)
    .option('--mem <pid>', 'look into the memory of this process, with one of the three following', positiveInteger)
    .option('--search <text>', 'print the addresses at which this text is, and what is around it')
    .option('--regex <expression>', 'the same for a regular expression of JavaScript; at most 4096 bytes a match')
    .option(
      '--hexdump <range>',
      'print memory as hexdump -C: 0x7ffc1000-0x7ffc2000, or 0x7ffc1000+4096 (bytes)',
      addressRange,
    )
    .option('--max-unpacked-bytes <size>', 'size limit of a compressed archive or a stream (default: 1 TiB)', byteCount)
    .option('--json', 'print everything as JSON')
    .addHelpText(
      'after',
      `
Archives of Podman, CRI-O and containerd are read, too. Nothing is unpacked to a disk, unless --ps or another view of
the images looks into a compressed archive or a stream: that needs its whole size in the temporary directory.

Examples:
  stillframe inspect app.tar --members
  stillframe inspect app.tar --ps --sockets
  stillframe inspect app.tar --env --pid 4711
  stillframe inspect app.tar --all --json
  stillframe inspect app.tar --html app.html
  stillframe inspect app.tar --mem 4711 --search password=
  ssh host cat app.tar.gz | stillframe inspect -`,
    )
    .action(async (argument: string, options: InspectFlags) =>
      (await import('../actions/inspect.js')).inspectAction(argument, options, signal),
    );
}

export function verifyCommand(signal: AbortSignal): Command {
  return new Command('verify')
    .description('Check every byte of an archive against its manifest, and whether it would restore.')
    .argument('<archive>', 'a path; - for the standard input')
    .option(
      '--max-unpacked-bytes <size>',
      'size limit for unpacking a compressed archive (default: 90 % of the free space)',
      byteCount,
    )
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      `
CRIU refuses a restore when one of its images is missing, or a file that a process has open or mapped is not as
it was recorded. Both are looked for here, in archives of Podman, CRI-O and containerd, too; those hold no digests.

Exit status 1: the archive is damaged, or would not restore. What is wrong is named.

Examples:
  stillframe verify app.tar && scp app.tar other:
  stillframe verify podman-checkpoint.tar.gz`,
    )
    .action(async (argument: string, options: ReadFlags) =>
      (await import('../actions/inspect.js')).verifyAction(argument, options, signal),
    );
}
