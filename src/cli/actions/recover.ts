import { leftJournals, recover, type Recovery } from '../../index.js';
import { STATE_DIR, stateDirFlag } from '../../state-dir.js';
import { EXIT_FAILED } from '../exit-status.js';
import { json } from '../output.js';
import { print, printError } from '../streams.js';

export async function recoverAction(options: { stateDir?: string; json?: boolean }): Promise<void> {
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
  // That of a living process may be another version's work, which is no failure.
  if (left.some(({ isAlive }) => !isAlive)) process.exitCode = EXIT_FAILED;
  for (const { path, owner, isAlive, why } of left)
    printError(
      `not recovered: ${path} ${why}; ${
        isAlive
          ? `process ${owner} or its guardian may be at work`
          : `process ${owner} has ended. Run the version of Stillframe that wrote it, or see \`stillframe status --all${stateDirFlag(options.stateDir ?? STATE_DIR)}\` and remove the file`
      }`,
    );
}

function workOf({ pid, restoreOf, podDirectory }: Recovery): string {
  if (restoreOf !== undefined) return `restore of ${restoreOf}`;
  if (podDirectory !== undefined) return `checkpoint of a pod into ${podDirectory}`;
  return pid === undefined ? 'frozen cgroup' : `checkpoint or freeze of ${pid}`;
}
