import { constants } from 'node:fs';
import { access, chmod, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import { errnoOf } from '../../errors.js';
import { DEFAULT_PATH } from '../../find-command.js';
import { criuEnvironment } from '../../criu/index.js';
import { pause } from '../../when-aborted.js';

export interface CriuForRuntime extends AsyncDisposable {
  /** The environment for the runtime, in which it finds this CRIU. */
  env: NodeJS.ProcessEnv;
  /** Whether `beforeTasksRun` has been called, and has come to its end. */
  readonly isDone: boolean;
}

/** How often this process looks whether CRIU waits for it, in milliseconds. */
const POLL_MS = 10;

/**
 * Runtimes look for a program of the name criu, and talk with it themselves. What is to happen between CRIU's restoring
 * the tasks and their running, CRIU has to be told on its command line: it runs an action script, also for a client
 * that takes its notifications (criu/action-scripts.c, run_scripts, CRIU v3.17 and newer).
 *
 * @param scratch A private directory.
 * @param beforeTasksRun Called with the root's pid while all tasks exist and none has run, as at `post-restore`. CRIU
 * waits until it has settled, or this process has ended. It is not called where no program can be run from `scratch`.
 */
export async function criuForRuntime(
  scratch: string,
  criuPath: string,
  beforeTasksRun?: (root: number) => Promise<void>,
): Promise<CriuForRuntime> {
  const bin = join(scratch, 'bin');
  await mkdir(bin, { mode: 0o700 });
  const env = {
    ...criuEnvironment(criuPath, process.env),
    PATH: [bin, process.env['PATH'] ?? DEFAULT_PATH].join(delimiter),
  };
  const criu = join(bin, 'criu');
  if (beforeTasksRun === undefined || !(await canRunFrom(bin))) {
    await symlink(resolve(criuPath), criu);
    return { env, isDone: false, [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  const [restored, done] = [join(bin, 'restored'), join(bin, 'done')];
  const script = join(bin, 'action-script');
  await writeProgram(script, waitingScript(restored, done));
  await writeProgram(criu, `#!/bin/sh\nexec ${quoted(resolve(criuPath))} --action-script ${quoted(script)} "$@"\n`);
  const end = new AbortController();
  let isDone = false;
  const watching = (async () => {
    const root = await contentsOnceThere(restored, end.signal);
    try {
      await beforeTasksRun(Number(root));
      isDone = true;
    } finally {
      await writeFile(done, '', { mode: 0o600 });
    }
  })().catch(() => undefined);
  return {
    env,
    get isDone() {
      return isDone;
    },
    async [Symbol.asyncDispose]() {
      end.abort();
      await watching;
    },
  };
}

/**
 * For sh, which CRIU needs anyhow (criu/util.c). It polls: a pipe would hold CRIU and the tasks for ever when this
 * process dies. Not every sleep takes fractions.
 */
function waitingScript(restored: string, done: string): string {
  return `#!/bin/sh
[ "$CRTOOLS_SCRIPT_ACTION" = post-restore ] || exit 0
PATH=${DEFAULT_PATH}
echo "$CRTOOLS_INIT_PID" >${quoted(`${restored}.new`)}
mv ${quoted(`${restored}.new`)} ${quoted(restored)}
while [ ! -e ${quoted(done)} ] && kill -0 ${process.pid}; do
\tsleep 0.01 || sleep 1
done 2>/dev/null
exit 0
`;
}

/** The file system may have been mounted noexec: access(2) knows. */
async function canRunFrom(dir: string): Promise<boolean> {
  const path = join(dir, 'probe');
  await writeProgram(path, '#!/bin/sh\n');
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

async function writeProgram(path: string, text: string): Promise<void> {
  await writeFile(path, text, { mode: 0o700, flag: 'wx' });
  await chmod(path, 0o700);
}

/** @throws the signal's reason */
async function contentsOnceThere(path: string, signal: AbortSignal): Promise<string> {
  for (; ; await pause(POLL_MS, signal)) {
    try {
      return await readFile(path, 'utf8');
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
