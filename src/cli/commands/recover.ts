import { Command } from 'commander';
import { recover } from '../../index.js';
import { json, print } from '../output.js';

export function recoverCommand(): Command {
  return new Command('recover')
    .description(
      'Put right what dead checkpoints and restores left behind: frozen cgroups, moved tasks, half-made trees, temporary files.',
    )
    .option('--state-dir <dir>', 'where journals and locks are (default /run/stillframe)')
    .option('--json', 'print what was done as JSON')
    .addHelpText(
      'after',
      '\nNeeded only when a checkpoint or restore and its guardian were both killed. Those that are alive are left alone.\n\nExample:\n  sudo stillframe recover',
    )
    .action(async (options: { stateDir?: string; json?: boolean }) => {
      const recoveries = await recover({ stateDir: options.stateDir });
      if (options.json === true) print(json(recoveries));
      else if (recoveries.length === 0) print('nothing was left behind');
      for (const { pid, restoreOf, cgroup, since, did } of options.json === true ? [] : recoveries) {
        print(
          `${restoreOf === undefined ? `checkpoint of ${String(pid)}` : `restore of ${restoreOf}`}${cgroup === undefined ? '' : ` in ${cgroup}`}, begun ${since}:\n${did.map((line) => `  ${line}`).join('\n') || '  nothing but its journal was left'}`,
        );
      }
    });
}
