import { execFile } from 'node:child_process';
import { ContainerError } from './container-error.js';

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
}

/**
 * Runs a runtime's command to its end.
 * @throws ContainerError RUNTIME_MISSING, RUNTIME_FAILED
 */
export function run(command: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const { timeoutMs = 0, signal, env, cwd } = options;
  return new Promise((resolve, reject) => {
    execFile(command, args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024, timeout: timeoutMs, signal, env, cwd }, (error, stdout, stderr) => {
      if (error === null) resolve({ stdout, stderr });
      else if (error.code === 'ENOENT') reject(new ContainerError('RUNTIME_MISSING', { runtime: command, command, cause: error }));
      else reject(new ContainerError('RUNTIME_FAILED', { command: [command, ...args.slice(0, 3)].join(' '), status: error.signal ?? error.code ?? 'unknown', stderr, cause: error }));
    });
  });
}
