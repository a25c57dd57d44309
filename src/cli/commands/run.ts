import { Command } from 'commander';
import type { RunFlags } from '../actions/run.js';
import { cgroupVersion, duration, tree } from '../arguments.js';

export function runCommand(signal: AbortSignal): Command {
  return new Command('run')
    .description('Start a program so that it can be checkpointed at any time, under a name.')
    .argument('[command...]', 'the program and its arguments, after --')
    .option('--name <name>', "the name to give it (default: the program's own, with a number if that is taken)")
    .option(
      '--files <name=dir>',
      'a directory or file that checkpoints of the name archive (DIR alone: under its own name); may be repeated',
      tree,
    )
    .option(
      '--log <file>',
      'the file to append its output to (default /var/log/stillframe/NAME.log, created with mode 0600)',
    )
    .option('--cgroup <dir>', 'the cgroup to run it in, created if missing (default: a new one below our own)')
    .option('--freezer <v1|v2>', 'the freezer to use, if the machine has both', cgroupVersion)
    .option(
      '--restore-from <dir>',
      'restore it from the newest checkpoint of its name in this directory that can be restored; ' +
        'start it if there is none',
    )
    .option('--discard-replaced', 'with --restore-from: delete the old files once the restored tree runs')
    .option(
      '--pid-timeout <time>',
      'with --restore-from: how long to wait for the old process ids to become free (default 10s)',
      duration,
    )
    .option('--detach', 'print its process id and leave it running in the background')
    .option('--state-dir <dir>', 'directory of names, journals and locks (default /run/stillframe)')
    .option('--json', 'with --detach: print what was started as JSON')
    .addHelpText(
      'after',
      `
The program gets a session and a cgroup of its own, no terminal, /dev/null as its standard input, and a file as its
standard output and standard error: what a shell would connect it to, CRIU could not restore. In the foreground, what is
appended to that file is copied to the standard output, and the signals HUP, INT, QUIT, TERM, USR1 and USR2 are passed
on (INT and QUIT to its whole process group, as a terminal does). It keeps running if this command is killed.
It runs with our user and environment: setpriv or sudo -u in front of it change the user.

With --restore-from an archive that is damaged, or that CRIU refuses to restore, is named and passed over. Files that
are there are replaced, and kept under another name. If its process ids or its name are taken, nothing is started.

Exit status: that of the program, or 128 plus the number of the signal that ended it. 125: it was not started, 126 or
127: it cannot be executed or found, 2: wrong usage.

Examples:
  stillframe run --name web --files /srv/app/data -- /srv/app/server --port 8080
  stillframe run --detach --log /var/log/app.log -- setpriv --reuid app --regid app --init-groups /srv/app/server
  stillframe run --name web --files /srv/app/data --restore-from /var/lib/web/checkpoints -- /srv/app/server
  stillframe checkpoint --name web --output web.tar
  stillframe restore web.tar                        once it has ended: it has its name again, and its log goes on`,
    )
    .action(async (words: string[], options: RunFlags, own: Command) =>
      (await import('../actions/run.js')).runAction(words, options, signal, own),
    );
}
