import { InvalidArgumentError, type Command } from 'commander';
import { start, startOrRestore, type ProgramEnd, type StartedOrRestored, type StartedProgram } from '../../index.js';
import { visibleName } from '../../visible.js';
import { errorText } from '../error-text.js';
import { exitStatusOf, failure } from '../cancelled.js';
import { EXIT_FAILED, EXIT_USAGE } from '../exit-status.js';
import { facts, json } from '../output.js';
import { refuseBeside } from '../container-options.js';
import { tellSkipped } from '../skipped.js';
import { print, printError } from '../streams.js';
import { FollowedFile } from './follow-file.js';

/** Exit statuses beside those of the program, as env(1) and shells have them. */
const NOT_STARTED = 125;
const STATUS_OF: Readonly<Record<string, number>> = { COMMAND_NOT_EXECUTABLE: 126, COMMAND_NOT_FOUND: 127 };

const FORWARDED = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2'] as const;
/** Those that a terminal sends to everybody in its foreground. */
const TO_GROUP: readonly NodeJS.Signals[] = ['SIGINT', 'SIGQUIT'];

/** What commander hands over. */
export interface RunFlags {
  name?: string;
  files?: [name: string, path: string][];
  log?: string;
  cgroup?: string;
  freezer?: 1 | 2;
  restoreFrom?: string;
  discardReplaced?: boolean;
  pidTimeout?: number;
  detach?: boolean;
  stateDir?: string;
  json?: boolean;
}

export async function runAction(
  command: readonly string[],
  options: RunFlags,
  signal: AbortSignal,
  own: Command,
): Promise<void> {
  if (command.length === 0 || command[0] === '')
    throw new InvalidArgumentError('Give the program to run: run ... -- COMMAND ARG...');
  if (options.detach !== true) refuseBeside('a program in the foreground', options, ['json']);
  const { restoreFrom, discardReplaced } = options;
  if (restoreFrom === undefined)
    refuseBeside('a program that is not restored', options, ['discardReplaced', 'pidTimeout']);
  using forwarded = new ForwardedSignals();
  let program: StartedProgram & Partial<StartedOrRestored>;
  try {
    const starting = {
      command,
      name: options.name,
      files: (options.files ?? []).map(([name, path]) => ({ name, path })),
      logPath: options.log,
      cgroup: options.cgroup,
      cgroupVersion: options.freezer,
      stateDir: options.stateDir,
      signal,
    };
    const replaceFiles = discardReplaced === true ? 'remove' : 'keep';
    program =
      restoreFrom === undefined
        ? await start(starting)
        : await startOrRestore({
            ...starting,
            restoreFrom,
            replaceFiles,
            pidTimeoutMs: options.pidTimeout,
            onSkipped: tellSkipped,
          });
  } catch (error) {
    printError(errorText(failure(error, signal), options.json === true, own));
    process.exitCode = statusOf(error, signal);
    return;
  }
  if (options.detach === true) tellDetached(program, options.json === true);
  else await stayWith(program, forwarded);
}

function statusOf(error: unknown, signal: AbortSignal): number {
  if (signal.aborted) return exitStatusOf(error, signal);
  const { code } = error as { code?: unknown };
  return code === 'BAD_OPTION' ? EXIT_USAGE : (STATUS_OF[String(code)] ?? NOT_STARTED);
}

function tellDetached(program: StartedProgram & Partial<StartedOrRestored>, asJson: boolean): void {
  const { name, pid, command, cgroup, logPath, files, restored, skipped } = program;
  const restoredFrom = restored?.archive.path;
  if (asJson) return print(json({ name, pid, command, cgroup, logPath, files, restoredFrom, skipped }));
  print(String(pid));
  printError(
    facts([
      ...(restoredFrom === undefined ? [] : ([['restored from', restoredFrom]] as const)),
      ['name', name],
      ['cgroup', cgroup.path],
      ['log', logPath],
    ]),
  );
}

/** In the foreground: its output is ours, our signals are its, and so is its end. */
async function stayWith(
  program: StartedProgram & Partial<StartedOrRestored>,
  signals: ForwardedSignals,
): Promise<void> {
  const { name, pid, logPath, logStart, restored } = program;
  signals.to(program);
  const from = restored === undefined ? '' : `, restored from ${restored.archive.path}`;
  printError(`stillframe: ${name} runs as process ${pid}${from}; its output is kept in ${logPath}`);
  for (const { path, keptAs } of restored?.report.replaced ?? [])
    if (keptAs !== undefined) printError(`stillframe: the old files of ${path} are now ${keptAs}`);
  const output = new FollowedFile(logPath, logStart, process.stdout);
  output.start();
  const end = await program.ended();
  await output.end();
  if (end.remaining.length > 0) printError(remainingText(program, end));
  if (end.status === undefined) printError(`stillframe: ${name} has ended; how is not known`);
  process.exitCode = end.status ?? EXIT_FAILED;
}

function remainingText({ name, cgroup }: StartedProgram, { remaining }: ProgramEnd): string {
  const shown = remaining.slice(0, 10).map(({ pid, name: of }) => `${pid} (${visibleName(of)})`);
  const more = remaining.length > shown.length ? `, and ${remaining.length - shown.length} more` : '';
  return (
    `stillframe: ${name} has ended, but not all of its processes: ${shown.join(', ')}${more} live on in ${cgroup.path}. ` +
    'Without their root they cannot be checkpointed; start a program so that it stays in the foreground'
  );
}

/** What is sent to this command while it starts a program reaches that one as soon as it runs. */
class ForwardedSignals implements Disposable {
  #program: StartedProgram | undefined;
  readonly #early: NodeJS.Signals[] = [];

  constructor() {
    for (const name of FORWARDED) process.on(name, this.#forward);
  }

  to(program: StartedProgram): void {
    this.#program = program;
    for (const name of this.#early.splice(0)) this.#forward(name);
  }

  readonly #forward = (name: NodeJS.Signals): void => {
    if (this.#program === undefined) this.#early.push(name);
    else this.#program.kill(name, { group: TO_GROUP.includes(name) });
  };

  [Symbol.dispose](): void {
    for (const name of FORWARDED) process.off(name, this.#forward);
  }
}
