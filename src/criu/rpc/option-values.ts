/** Checks of options' values: each gives back the value, or throws BAD_OPTION with the option's name. */
import { resolve } from 'node:path';
import { badOptionText, unknownOption, type OptionNames } from '../../bad-option.js';
import { CriuError } from '../errors/criu-error.js';

/** `field` is which field of the option's objects it is, for the reason. */
type Check<T> = (option: string, value: T, field?: string) => unknown;

export function bad(option: string, reason: string, field?: string): never {
  throw new CriuError('BAD_OPTION', { option, reason: field === undefined ? reason : `${field}: ${reason}` });
}

export function boolean(option: string, value: boolean, field?: string): boolean {
  return typeof value === 'boolean' ? value : bad(option, `${String(value)} is neither true nor false`, field);
}

/** C strings end at the first NUL: what follows would be lost in silence. */
export function string(option: string, value: string, field?: string): string {
  return typeof value === 'string' && !value.includes('\0')
    ? value
    : bad(option, `${String(value)} is not a string without NUL`, field);
}

export function filled(option: string, value: string, field?: string): string {
  return string(option, value, field) === '' ? bad(option, 'it is empty', field) : value;
}

/** A path of ours, made absolute: CRIU opens it from its work directory, a service from its own. */
export function path(option: string, value: string, field?: string): string {
  return resolve(filled(option, value, field));
}

/** A whole number. */
export function integer(option: string, value: number | bigint, least: number, most: number, field?: string): number {
  const number = typeof value === 'bigint' ? Number(value) : value;
  return Number.isInteger(number) && number >= least && number <= most
    ? number
    : bad(option, `${String(value)} is not a whole number from ${least} to ${most}`, field);
}

export function uint32(option: string, value: number | bigint, field?: string): number {
  return integer(option, value, 0, 0xffffffff, field);
}

export function port(option: string, value: number, field?: string): number {
  return integer(option, value, 0, 65535, field);
}

export function choice<K extends string, V>(option: string, value: K, values: { readonly [Key in K]: V }): V {
  return Object.hasOwn(values, value)
    ? values[value]
    : bad(option, `"${String(value)}" is none of ${Object.keys(values).join(', ')}`);
}

export function array<T>(option: string, value: readonly T[]): readonly T[] {
  return Array.isArray(value) ? value : bad(option, 'not an array');
}

export function strings(option: string, value: readonly string[]): string[] {
  return array(option, value).map((element) => string(option, element));
}

/** Entries of `external`. CRIU (4.3 too) crashes over a macvlan without a value: criu/net.c, macvlan_ext_add. */
export function externals(option: string, value: readonly string[]): string[] {
  const entries = strings(option, value);
  const wrong = entries.find((entry) => entry.startsWith('macvlan') && !/^macvlan[^[]*\[[^\]]*\]:./.test(entry));
  return wrong === undefined ? entries : bad(option, `${wrong} has no value: "macvlan[INSIDE]:OUTSIDE"`);
}

export function record<T extends object>(option: string, value: T): T {
  return typeof value === 'object' && (value as T | null) !== null && !Array.isArray(value)
    ? value
    : bad(option, `${String(value)} is not an object`);
}

/** Options that may be anything: an object with no other names. */
export function onlyKnown<T>(given: T, names: OptionNames<T>): void {
  const unknown = unknownOption(given, names);
  if (unknown === undefined) return;
  const { what, remedy } = badOptionText(unknown);
  bad(unknown.option, remedy === '' ? what : `${what}. ${remedy}`);
}

/** An object of no other fields than those that have a check. */
export function object<T extends object>(option: string, value: T, checks: { [K in keyof T]-?: Check<T[K]> }): T {
  for (const name of Object.keys(record(option, value)))
    if (!Object.hasOwn(checks, name)) bad(option, `there is no field ${name}`);
  for (const name in checks) checks[name](option, value[name], name);
  return value;
}

export function objects<T extends object>(
  option: string,
  value: readonly T[],
  checks: { [K in keyof T]-?: Check<T[K]> },
): T[] {
  return array(option, value).map((element) => object(option, element, checks));
}

/** A field that may be absent. */
export function maybe<T>(check: Check<T>): Check<T | undefined> {
  return (option, value, field) => (value === undefined ? value : check(option, value, field));
}
