import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

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
