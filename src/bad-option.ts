import { inspect } from 'node:util';
import type { ErrorText } from './errors.js';

/** What is known of an option that is refused. */
export interface BadOption {
  option: string;
  value: unknown;
  expected: string;
}

/** The names of all options in `T`; the compiler keeps such an object complete. */
export type OptionNames<T> = Readonly<Record<keyof T, true>>;

const UNKNOWN = 'one of the known options: ';

export function badOptionText({ option, value, expected }: BadOption): ErrorText {
  if (expected.startsWith(UNKNOWN))
    return { what: `there is no option \`${option}\``, remedy: `There are: ${expected.slice(UNKNOWN.length)}.` };
  return { what: `\`${option}\` is ${show(value)}, expected ${expected}`, remedy: '' };
}

/**
 * What is no object at all, or the first option that has a value and a name that is not known. A misspelt option would
 * otherwise be ignored without a word, and a checkpoint made without the files that it names.
 */
export function unknownOption<T>(given: T, names: OptionNames<T>): BadOption | undefined {
  if (typeof given !== 'object' || given === null)
    return { option: 'options', value: given, expected: 'an object with the options' };
  for (const [option, value] of Object.entries(given) as [string, unknown][])
    if (value !== undefined && !Object.hasOwn(names, option))
      return { option, value, expected: UNKNOWN + Object.keys(names).join(', ') };
  return undefined;
}

/** What is no path that a program can open; undefined for one that is. */
export function badPath(option: string, value: unknown): BadOption | undefined {
  const isPath = typeof value === 'string' && value !== '' && !value.includes('\0');
  return isPath ? undefined : { option, value, expected: 'a path' };
}

/** Names of options but for some of them. */
export function without<T, K extends keyof T>(names: T, unwanted: readonly K[]): Omit<T, K> {
  return Object.fromEntries(
    Object.entries(names as object).filter(([name]) => !(unwanted as readonly PropertyKey[]).includes(name)),
  ) as Omit<T, K>;
}

/** One line, and no more of an object than tells which it is. */
function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  return inspect(value, { breakLength: Infinity, depth: 0, maxArrayLength: 3 });
}
