import { InvalidArgumentError, type Command } from 'commander';
import { duration } from '../arguments.js';
import { refuseBeside, type ContainerOptions } from '../container-options.js';

export interface WhileOptions extends ContainerOptions {
  while?: boolean;
  pid?: number;
  name?: string;
  cgroup?: string;
  freezer?: 1 | 2;
  adopt?: boolean;
  maxFrozen?: number;
  timeout?: number;
  stateDir?: string;
  placeGuardianIn?: string;
  json?: boolean;
}

export function addWhileFlags(command: Command): Command {
  return command
    .argument('[command...]', 'with --while: what to run, and its arguments')
    .option('--while', 'run COMMAND while everything is frozen, then thaw, whatever happens')
    .option('--cgroup <dir>', 'with --while: a cgroup with everything in it; with --pid, the cgroup of that tree')
    .option('--runc <id>', 'with --while: a runc container')
    .option('--crun <id>', 'with --while: a crun container')
    .option('--podman <name>', 'with --while: a Podman container')
    .option('--state-root <dir>', "with --while: the runtime's state directory, its --root (default: searched for)")
    .option('--adopt', 'with --while: move the tree into its own cgroup, and back afterwards')
    .option(
      '--max-frozen <time>',
      'with --while: thaw after this time, and end COMMAND (not what COMMAND has started)',
      duration,
    )
    .option('--place-guardian-in <dir>', 'with --while: cgroup for the guardian');
}

export const WHILE_HELP = `
With --while, a guardian thaws the tree if this command is killed. COMMAND gets its standard streams and its signals,
and STILLFRAME_CGROUP and STILLFRAME_PID in its environment. It must not run inside the frozen cgroup or container.

Exit status with --while: that of COMMAND, or 128 plus the number of the signal that ended it. 124: --max-frozen was
reached, 125: the freeze or the thaw failed, 126 or 127: COMMAND cannot be run or found.

Examples with --while:
  stillframe freeze --while --max-frozen 5s --pid 4711 -- btrfs subvolume snapshot -r /srv/app /srv/snapshots/app
  stillframe freeze --while --cgroup /sys/fs/cgroup/system.slice/db.service -- lvcreate -s -n db-snap -L 1G vg/db
  stillframe freeze --while --podman web -- sh -c 'cp -a --reflink=always /srv/web /srv/web.copy'`;

/** Refuses what has a meaning with `--while` only. */
export function refuseWithoutWhile(args: readonly string[], options: WhileOptions): void {
  if (args.length > 0) throw new InvalidArgumentError('A command to run needs --while.');
  refuseBeside('freeze without --while', options, [
    'cgroup',
    'runc',
    'crun',
    'podman',
    'stateRoot',
    'adopt',
    'maxFrozen',
    'placeGuardianIn',
  ]);
}
