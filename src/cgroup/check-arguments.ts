/** What arguments must be: each throws FreezerError BAD_OPTION before anything is touched. */
import { badPath, unknownOption, type BadOption, type OptionNames } from '../bad-option.js';
import { FreezerError } from './freezer-error.js';

export function requirePid(pid: unknown): void {
  if (!Number.isInteger(pid) || (pid as number) <= 0) bad('pid', pid, 'a process id');
}

export function requirePath(option: string, value: unknown): void {
  refuse(badPath(option, value));
}

export function requireOptions<T>(given: T, names: OptionNames<T>): void {
  refuse(unknownOption(given, names));
}

/** The freezer's. */
export function requireVersion(value: unknown): void {
  if (value !== 1 && value !== 2) bad('version', value, '1 or 2');
}

function bad(option: string, value: unknown, expected: string): never {
  throw new FreezerError('BAD_OPTION', { option, value, expected });
}

function refuse(wrong: BadOption | undefined): void {
  if (wrong !== undefined) throw new FreezerError('BAD_OPTION', wrong);
}
