import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { errnoOf } from '../../errors.js';
import { ContainerError } from '../model/container-error.js';

export interface CommandResult {
  stdout: string;
  stderr: string;
}

export interface CommandOptions {
  /** Milliseconds. Default: no limit. */
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** Called with its process id. */
  onStarted?: (pid: number) => void;
}

/**
 * Runs a runtime's command to its end.
 * @throws ContainerError RUNTIME_MISSING, RUNTIME_FAILED; the signal's reason
 */
export function run(command: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const { timeoutMs = 0, signal, env, cwd, onStarted } = options;
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      args,
      { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024, timeout: timeoutMs, signal, env, cwd },
      (error, stdout, stderr) => {
        if (error === null) resolve({ stdout, stderr });
        else if (signal?.aborted === true) reject(signal.reason as Error);
        else if (error.code === 'ENOENT')
          reject(new ContainerError('RUNTIME_MISSING', { runtime: command, command, cause: error }));
        else
          reject(
            new ContainerError('RUNTIME_FAILED', {
              command: [command, ...args.slice(0, 3)].join(' '),
              status: error.signal ?? error.code ?? 'unknown',
              stderr,
              cause: error,
            }),
          );
      },
    );
    if (child.pid !== undefined) onStarted?.(child.pid);
  });
}

/**
 * Runs a command that leaves a container behind. Nothing of it is read through a pipe: the container may inherit its
 * standard streams, and a pipe would be open as long as the container lives. What went wrong is in the command's log.
 * @throws ContainerError RUNTIME_MISSING, RUNTIME_FAILED; the signal's reason
 */
export async function launch(
  command: string,
  args: readonly string[],
  options: CommandOptions & { logPath: string },
): Promise<void> {
  const { env, cwd, signal, logPath, onStarted } = options;
  const child = spawn(command, ['--log', logPath, ...args], { env, cwd, signal, stdio: 'ignore' });
  if (child.pid !== undefined) onStarted?.(child.pid);
  let ended: [status: number | null, killedBy: NodeJS.Signals | null];
  try {
    ended = (await once(child, 'exit')) as typeof ended;
  } catch (cause) {
    signal?.throwIfAborted();
    if (errnoOf(cause) === 'ENOENT') throw new ContainerError('RUNTIME_MISSING', { runtime: command, command, cause });
    throw cause;
  }
  const [status, killedBy] = ended;
  if (status === 0) return;
  const stderr = await readFile(logPath, 'utf8').catch(() => '');
  throw new ContainerError('RUNTIME_FAILED', {
    command: [command, ...args].join(' '),
    status: killedBy ?? status ?? 'unknown',
    stderr,
  });
}

/** Whether a command that asks or removes succeeds. @throws ContainerError RUNTIME_MISSING */
export async function succeeds(command: string, args: readonly string[]): Promise<boolean> {
  try {
    await run(command, args);
    return true;
  } catch (error) {
    if (error instanceof ContainerError && error.code === 'RUNTIME_FAILED') return false;
    throw error;
  }
}
