import { Command } from 'commander';
import { leftJournals, recover, type Recovery } from '../../index.js';
import { STATE_DIR, stateDirFlag } from '../../state-dir.js';
import { json, print, printError } from '../output.js';

export function recoverCommand(): Command {
  return new Command('recover')
    .description(
      'Clean up after checkpoints and restores that were killed: frozen cgroups, moved tasks, unfinished trees, temporary files.',
    )
    .option('--state-dir <dir>', 'directory of journals and locks (default /run/stillframe)')
    .option('--json', 'print what was done as JSON')
    .addHelpText(
      'after',
      '\nNeeded only if a checkpoint or restore and its guardian were both killed. Running ones are left alone.\n\nExit status: 0 if nothing is left that this version can clean up, 1 if something could not be cleaned up (its journal\nstays, so that recover can be run again). Journals of another version, and damaged ones, are named on stderr; they do\nnot change the exit status.\n\nExample:\n  sudo stillframe recover',
    )
    .action(async (options: { stateDir?: string; json?: boolean }) => {
      const recoveries = await recover({ stateDir: options.stateDir });
      const left = leftJournals({ stateDir: options.stateDir });
      if (options.json === true) print(json(recoveries));
      else if (recoveries.length === 0 && left.length === 0) print('nothing was left behind');
      for (const recovery of options.json === true ? [] : recoveries) {
        const { cgroup, since, did } = recovery;
        print(
          `${workOf(recovery)}${cgroup === undefined ? '' : ` in ${cgroup}`}, begun ${since}:\n${did.map((line) => `  ${line}`).join('\n') || '  only its journal was left'}`,
        );
      }
      for (const { path, owner, isAlive, why } of left)
        printError(
          `not recovered: ${path} ${why}; ${
            isAlive
              ? `process ${owner} or its guardian may be at work`
              : `process ${owner} has ended. Run the version of Stillframe that wrote it, or see \`stillframe status --all${stateDirFlag(options.stateDir ?? STATE_DIR)}\` and remove the file`
          }`,
        );
    });
}

function workOf({ pid, restoreOf, podDirectory }: Recovery): string {
  if (restoreOf !== undefined) return `restore of ${restoreOf}`;
  if (podDirectory !== undefined) return `checkpoint of a pod into ${podDirectory}`;
  return pid === undefined ? 'frozen cgroup' : `checkpoint or freeze of ${pid}`;
}
