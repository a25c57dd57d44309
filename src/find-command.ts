import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';

/** PATH where there is none, as the runtimes get it too. */
export const DEFAULT_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

export type CommandProblem = 'ENOENT' | 'EACCES';

/**
 * The file that a command's name leads to, as a shell finds it; or why it leads to none. A name with a slash is not
 * looked for on PATH.
 */
export function findCommand(
  name: string,
  path = process.env.PATH ?? '',
): { path: string; problem?: undefined } | { path?: undefined; problem: CommandProblem } {
  const candidates = name.includes('/') ? [name] : path.split(delimiter).map((dir) => join(dir, name));
  let problem: CommandProblem = 'ENOENT';
  for (const candidate of candidates) {
    try {
      accessSync(candidate, constants.X_OK);
      if (statSync(candidate).isFile()) return { path: candidate };
      problem = 'EACCES'; // a directory can be entered, not executed
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EACCES') problem = 'EACCES';
    }
  }
  return { problem };
}

export function isExecutable(path: string): boolean {
  return findCommand(resolve(path)).problem === undefined;
}
