import { Command } from 'commander';
import type { RestoreFlags } from '../actions/restore.js';
import { addressPair, byteCount, duration, HOST_SETTINGS, hostSetting, positiveInteger, tree } from '../arguments.js';
import { addRestoreFlags } from '../criu-flags.js';

export function restoreCommand(signal: AbortSignal): Command {
  const command = new Command('restore')
    .description('Verify an archive, put its files back and restore its process tree.')
    .argument(
      '[archive]',
      'what `stillframe checkpoint` wrote, or with --clone `stillframe prepare`; - for the standard input',
    )
    .option(
      '--latest <dir>',
      'in place of an archive: the newest one in this directory that verifies; those passed over are named',
    )
    .option('--files <name=dir>', 'where to put a file tree (default: where it was); may be repeated', tree)
    .option('--name <name>', 'the name to give the restored tree (default: the one that it had)')
    .option('--replace', 'replace the files that are there, as after a crash; the old ones are kept under another name')
    .option('--discard-replaced', 'with --replace: delete the old files once the tree runs')
    .option('--cgroup <dir>', 'restore into this cgroup, created if missing (default: the recorded one)')
    .option('--runc <id>', 'restore a container with runc, under this id; needs --bundle')
    .option('--crun <id>', 'the same with crun')
    .option('--podman <name>', 'restore a container with Podman, under this name')
    .option('--pod <name>', 'with --podman: the pod to put the container into')
    .option('--ignore-volumes', 'with --podman: do not restore the contents of volumes')
    .option('--bundle <dir>', "the new container's bundle, with the image in its root file system")
    .option(
      '--keep <setting>',
      `without a config.json in the bundle: what to keep of the archive's own although it reaches out to this machine (${HOST_SETTINGS.join(', ')}); may be repeated`,
      hostSetting,
    )
    .option('--state-root <dir>', "the runtime's state directory, its --root (default: the runtime's own)")
    .option(
      '--work-dir <dir>',
      "where CRIU's images are unpacked (default: memory if they fit, else the archive's directory)",
    )
    .option('--pid-timeout <time>', 'how long to wait for the old process ids to become free', duration)
    .option(
      '--clone',
      'restore a copy beside whatever runs, in namespaces of its own: the archive may be a prepared directory',
    )
    .option(
      '--net <own|host|path>',
      "with --clone: its network; own has a loopback interface only (default: host, this machine's)",
    )
    .option('--hostname <name>', 'with --clone: its host name')
    .option('--count <n>', 'with --clone: how many copies, each told by its pid on a line of its own', positiveInteger)
    .option(
      '--replace-address <old=new>',
      'give sockets another address than they had (IPv4 or IPv6); may be repeated',
      addressPair,
    )
    .option('--lazy-pages', 'resume before memory is loaded; pages are fetched on demand, the rest in the background')
    .option(
      '--wait',
      "wait until the tree's root ends, and exit with its status (128 and the number of a signal that ended it)",
    )
    .option('--no-wait', 'do not wait for the restored job; the shell regains the terminal at once')
    .option(
      '--max-unpacked-bytes <size>',
      'size limit for unpacking a compressed archive (default: 90 % of the free space)',
      byteCount,
    )
    .option('--strict', 'turn warnings, such as files that changed since the checkpoint, into a refusal')
    .option('--criu-log <file>', "where to keep CRIU's log if CRIU fails")
    .option('--state-dir <dir>', 'directory of journals and locks (default /run/stillframe)')
    .option('--json', 'print the report as JSON');
  return addRestoreFlags(command)
    .addHelpText(
      'after',
      `
Prints the pid of the restored tree's root. The archive is verified before anything is touched. With --lazy-pages it goes on
until all memory has been brought: end it before that, and the tree is ended too.

Examples:
  stillframe restore app.tar
  stillframe restore app.tar --replace                            after a crash, with the files still there
  stillframe restore --latest /var/lib/web/checkpoints --replace   what checkpoint --every has left
  stillframe restore c1.tar --runc c2 --bundle /srv/bundles/c2
  stillframe restore c1.tar --runc c2 --bundle /srv/bundles/c2 --keep devices
  stillframe restore web.tar --podman web
  ssh host cat app.tar.zst | stillframe restore -
  stillframe restore app.tar --wait                               as a service: exits as the restored program does
  stillframe restore /var/lib/app/warm --clone --net own          a copy, from what \`stillframe prepare\` made
  stillframe restore app.tar --lazy-pages                         for large memory: resume first, load memory later
  stillframe restore app.tar --files data=/srv/app/data --cgroup /sys/fs/cgroup/app`,
    )
    .action(async (archive: string | undefined, options: RestoreFlags, own: Command) =>
      (await import('../actions/restore.js')).restoreAction(archive, options, signal, own),
    );
}
