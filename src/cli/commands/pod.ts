import { Command } from 'commander';
import type { PodFlags } from '../actions/pod.js';
import { collect, duration } from '../arguments.js';

export function podCommand(signal: AbortSignal): Command {
  return new Command('pod')
    .description('Checkpoint several containers at one instant: all are frozen before the first is dumped.')
    .option('--runc <id>', 'a runc container; may be repeated', collect)
    .option('--crun <id>', 'a crun container; may be repeated', collect)
    .option('--podman <name>', 'a Podman container; may be repeated', collect)
    .option('--parent-cgroup <dir>', 'all runc and crun containers below this cgroup')
    .option('--state-root <dir>', "the runtime's state directory, its --root (default: searched for)")
    .option('--output <dir>', 'the directory to create, with one archive per container and pod.json')
    .option('--stop', 'end all of them once the archives are safe on disk (default: they keep running)')
    .option('--max-frozen <time>', 'cancel the checkpoint if they would stay frozen for longer', duration)
    .option('--state-dir <dir>', 'directory of journals and locks (default /run/stillframe)')
    .option('--strict', 'turn warnings, such as files in use that are not archived, into a refusal')
    .option('--json', 'print the report as JSON')
    .addHelpText('after', '\nExample:\n  stillframe pod --podman web --podman db --output shop')
    .action(async (options: PodFlags, own: Command) =>
      (await import('../actions/pod.js')).podAction(options, signal, own),
    );
}
