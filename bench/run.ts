import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A file of this package, by its path from the top. */
export function packageFile(path: string): string {
  return join(dirname(fileURLToPath(import.meta.url)), '../..', path);
}

/** A program that scripts/setup.mjs has built from workloads/. */
export function workload(name: string): string {
  return packageFile(join('build/workloads', name));
}

/** Where a program is on PATH (and where root's are), or undefined. */
export function findProgram(name: string): string | undefined {
  for (const dir of [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin']) {
    try {
      accessSync(join(dir, name), constants.X_OK);
      return join(dir, name);
    } catch {
      continue;
    }
  }
  return undefined;
}

export interface RunOptions {
  cwd?: string;
  /** A directory that comes first on PATH. */
  pathFirst?: string | undefined;
}

/** Runs a command to its end and resolves with its stdout. @throws Error with its last words */
export async function run(
  command: string,
  args: readonly string[],
  { cwd, pathFirst }: RunOptions = {},
): Promise<string> {
  const env =
    pathFirst === undefined
      ? process.env
      : { ...process.env, PATH: `${pathFirst}${delimiter}${process.env.PATH ?? ''}` };
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr = (stderr + text).slice(-4000)));
  const status = await new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? signal));
  });
  if (status !== 0)
    throw new Error(
      `${command} ${args.join(' ')} ended with ${String(status)}: ${stderr.trim() || stdout.trim().slice(-500)}`,
    );
  return stdout;
}
