import { Command, Option } from 'commander';
import type { CheckpointFlags } from '../actions/checkpoint.js';
import { byteCount, cgroupVersion, collect, duration, positiveInteger, tree, wholeNumber } from '../arguments.js';
import { addDumpFlags } from '../criu-flags.js';

export function checkpointCommand(signal: AbortSignal): Command {
  const command = new Command('checkpoint')
    .description('Checkpoint a running process tree or container, with its files, into one archive.')
    .option('--pid <n>', 'root of the process tree', positiveInteger)
    .option('--name <name>', 'a program that was started by run, with the files that it was started with')
    .option('--runc <id>', 'a runc container (including those run by CRI-O, containerd or Docker)')
    .option('--crun <id>', 'a crun container')
    .option('--podman <name>', 'a Podman container')
    .option('--state-root <dir>', "the runtime's state directory, its --root (default: searched for)")
    .option('--bundle <dir>', "the container's bundle (default: the one its runtime knows)")
    .option('--whole-rootfs', 'archive the entire root file system (for containers that do not use an overlay)')
    .option('--oci <dir>', 'also write the checkpoint as an OCI image layout, for a registry')
    .option('--output <file>', 'the archive to write; - for stdout; with --every the directory for the archives')
    .option(
      '--every <time>',
      'make a checkpoint now and then again and again after this time (e.g. 5m); on SIGTERM a last one',
      duration,
    )
    .option('--keep <n>', 'with --every: how many whole archives to keep (default 3)', positiveInteger)
    .option('--dry-run', 'say what the checkpoint would do, and touch nothing; exit status 1 if it would be refused')
    .option(
      '--files <name=dir>',
      'a directory or file to archive, and its name in the archive (DIR alone: its own); may be repeated',
      tree,
    )
    .option(
      '--exclude <glob>',
      "leave these files out: a path relative to each directory of --files, where * and ? stay within a component and ** is any number of them, such as cache or '**/*.log'; may be repeated",
      collect,
    )
    .option('--cgroup <dir>', "the tree's freezer cgroup (default: found from the pid)")
    .option('--freezer <v1|v2>', 'the freezer to use, if the machine has both', cgroupVersion)
    .option('--adopt', 'move the tree into its own cgroup for the checkpoint, and back afterwards')
    .option(
      '--stop',
      'end the tree once the archive is safe on disk (default: it keeps running); with --every at the last one alone',
    )
    .addOption(
      new Option(
        '--compress <how>',
        'compress the archive, after the thaw (default: by its extension, .gz or .zst)',
      ).choices(['gzip', 'zstd']),
    )
    .option('--overwrite', 'replace an existing archive')
    .option('--no-precopy', 'copy all files during the freeze')
    .option('--no-watch', 'look at every file during the freeze, not only at those that the kernel reports as changed')
    .option(
      '--pre-dump <rounds>',
      'number of pre-dump rounds to run before the freeze; needs a kernel that tracks memory',
      positiveInteger,
    )
    .option(
      '--pre-dump-until <bytes>',
      'repeat pre-dumps until a round writes less than this (e.g. 16M); --pre-dump sets the maximum number of rounds (default 8)',
      byteCount,
    )
    .option(
      '--work-dir <dir>',
      "where CRIU first writes its images (default: /dev/shm if they fit easily, else the archive's directory)",
    )
    .option('--freeze-timeout <time>', 'time limit for freezing all tasks', duration)
    .option('--max-frozen <time>', 'cancel the checkpoint if the tree would stay frozen for longer', duration)
    .option(
      '--criu-start-timeout <time>',
      'give up if CRIU takes longer to get ready; the tree keeps running meanwhile (default 30s)',
      duration,
    )
    .option(
      '--no-criu-helpers',
      "let CRIU archive tmpfs mounts by the system's tar, which takes longer during the freeze",
    )
    .option(
      '--place-guardian-in <dir>',
      'cgroup for the guardian, for when a service manager would kill it together with this command',
    )
    .option('--retries <n>', 'number of retries if CRIU refuses for a transient reason (default 2)', wholeNumber)
    .option('--state-dir <dir>', 'directory of journals and locks (default /run/stillframe)')
    .option(
      '--files-in-use',
      'also archive every file that the tree has open for writing or mapped shared and writable',
    )
    .option('--strict', 'turn warnings, such as files in use that are not archived, into a refusal')
    .option('--events <file>', 'append every phase, frozen window and warning to this file, as JSON lines')
    .option('--notify', 'keep the service manager informed ($NOTIFY_SOCKET)')
    .option('--criu-log <file>', "where to keep CRIU's log if CRIU fails")
    .option('--json', 'print the report as JSON');
  return addDumpFlags(command)
    .addHelpText(
      'after',
      `
Examples:
  stillframe checkpoint --pid 4711 --files data=/srv/app/data --output app.tar
  stillframe checkpoint --pid 4711 --files /srv/app/data --dry-run  what would be archived, and for how long it would stand still
  stillframe checkpoint --pid 4711 --files /srv/app --exclude cache --exclude '**/*.log' --output app.tar
  stillframe checkpoint --name web --output web.tar              a program that stillframe run has started
  stillframe checkpoint --podman web --output web.tar             for: podman container restore --import web.tar
  stillframe checkpoint --runc c1 --output c1.tar --oci c1-image  for: skopeo copy oci:c1-image docker://...
  stillframe checkpoint --pid 4711 --adopt --output app.tar       a tree that shares its cgroup with other processes
  stillframe checkpoint --pid 4711 --output - --compress gzip | ssh other 'cat > app.tar.gz'
  stillframe checkpoint --pid 4711 --stop --output app.tar        move it: end it here, restore it there
  stillframe checkpoint --pid 4711 --pre-dump-until 16M --output app.tar   for large memory: dump most of it before the freeze
  stillframe checkpoint --name web --every 5m --keep 3 --output /var/lib/web   see also: list, restore --latest

With --every the archives are called NAME-20261130T191745.123Z.tar, where NAME is that of the program or container, or
the process's own with its pid. When one more is safe on disk, the oldest whole one beyond --keep is removed. A
checkpoint that fails is reported, and the next one is tried at its time. SIGTERM lets the one under way end, makes a
last one, which with --stop ends the tree, and ends the command; SIGINT, SIGHUP or a second SIGTERM cancel what is under
way. Exit status: 0 all checkpoints succeeded until SIGTERM or the end of the tree, 1 any of them failed.`,
    )
    .action(async (options: CheckpointFlags, own: Command) =>
      (await import('../actions/checkpoint.js')).checkpointAction(options, signal, own),
    );
}
