import { basename, resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import type { HostSetting } from '../index.js';

export function positiveInteger(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value <= 0)
    throw new InvalidArgumentError('Give a positive whole number.');
  return value;
}

export function wholeNumber(text: string): number {
  if (text === '0') return 0;
  return positiveInteger(text);
}

/** Milliseconds: a plain number of them, or with ms, s, m or h behind it. */
export function duration(text: string): number {
  const units = { '': 1, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  const [, digits, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text) ?? [];
  const ms = Math.round(Number(digits) * units[(unit ?? '') as keyof typeof units]);
  if (!Number.isSafeInteger(ms) || ms <= 0)
    throw new InvalidArgumentError('Give a time such as 500 (milliseconds), 500ms, 5s, 2m or 1h.');
  return ms;
}

/** Bytes, or with K, M or G (KiB, MiB, GiB) behind it, of 1024 each. */
export function byteCount(text: string): number {
  const units = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };
  const [, digits, unit] = /^(\d+)(?:([KMG])(?:iB)?)?$/.exec(text) ?? [];
  const bytes = Number(digits) * units[(unit ?? '') as keyof typeof units];
  if (!Number.isSafeInteger(bytes) || bytes <= 0)
    throw new InvalidArgumentError('Give an amount such as 65536, 64K, 16M or 1G.');
  return bytes;
}

/** For an option that may be repeated. */
export function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

export function cgroupVersion(text: string): 1 | 2 {
  if (text === '1' || text === 'v1') return 1;
  if (text === '2' || text === 'v2') return 2;
  throw new InvalidArgumentError('Give v1 or v2.');
}

/**
 * `NAME=DIR`, or `DIR`, whose last component is the name then; repeated. What begins with a slash or a dot is the
 * directory, so that `DIR=NAME` is understood too.
 */
export function tree(text: string, before: [name: string, path: string][] = []): [name: string, path: string][] {
  const isPathFirst = /^[/.]/.test(text);
  const at = isPathFirst ? text.lastIndexOf('=') : text.indexOf('=');
  if (at === -1) {
    const name = basename(resolve(text));
    if (name === '') throw new InvalidArgumentError('Give it a name in the archive: NAME=DIR.');
    return [...before, [name, text]];
  }
  const [left, right] = [text.slice(0, at), text.slice(at + 1)];
  if (left === '' || right === '') throw new InvalidArgumentError('Give it as NAME=DIR, or DIR alone.');
  return [...before, isPathFirst ? [right, left] : [left, right]];
}

/** The library is not loaded for its list; the compiler keeps this one the same. */
const SETTINGS: Readonly<Record<HostSetting, true>> = {
  hooks: true,
  mounts: true,
  devices: true,
  namespaces: true,
  runtime: true,
};

export const HOST_SETTINGS = Object.keys(SETTINGS) as HostSetting[];

/** One of the settings of an archive's configuration that can be kept, repeated. */
export function hostSetting(text: string, before: HostSetting[] | undefined): HostSetting[] {
  const setting = HOST_SETTINGS.find((name) => name === text);
  if (setting === undefined) throw new InvalidArgumentError(`Give one of ${HOST_SETTINGS.join(', ')}.`);
  return [...(before ?? []), setting];
}

/** For an option that must be there: commander's own check comes before it names a misspelt one. */
export function required<T>(value: T | undefined, flag: string): T {
  if (value === undefined) throw new InvalidArgumentError(`required option '${flag}' not specified`);
  return value;
}

/** `OLD=NEW`, more of them together. */
export function addressPair(text: string, before: Record<string, string> = {}): Record<string, string> {
  const [, old, by] = /^([^=]+)=([^=]+)$/.exec(text) ?? [];
  if (old === undefined || by === undefined)
    throw new InvalidArgumentError('It is OLD=NEW, for example 127.0.0.1=127.0.0.2.');
  return { ...before, [old]: by };
}

/** `START-END` or `START+BYTES`, in hexadecimal (0x…) or decimal. */
export function addressRange(text: string): { start: number; end: number } {
  const [, first, sign, second] = /^(0x[0-9a-f]+|\d+)([-+])(0x[0-9a-f]+|\d+)$/i.exec(text) ?? [];
  const start = Number(first);
  const end = sign === '+' ? start + Number(second) : Number(second);
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || end <= start)
    throw new InvalidArgumentError('Give it as 0x7ffc1000-0x7ffc2000, or 0x7ffc1000+4096.');
  return { start, end };
}
