import { InvalidArgumentError } from 'commander';

export function positiveInteger(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value <= 0) throw new InvalidArgumentError('Give a positive whole number.');
  return value;
}

export function wholeNumber(text: string): number {
  if (text === '0') return 0;
  return positiveInteger(text);
}

export function cgroupVersion(text: string): 1 | 2 {
  if (text === '1' || text === 'v1') return 1;
  if (text === '2' || text === 'v2') return 2;
  throw new InvalidArgumentError('Give v1 or v2.');
}

/** `LEFT=RIGHT`, repeated; split at the last `=`, since a path may hold one and a name in the archive seldom does. */
export function pair(text: string, before: [string, string][] | undefined): [string, string][] {
  const at = text.lastIndexOf('=');
  if (at <= 0 || at === text.length - 1) throw new InvalidArgumentError('Give it as LEFT=RIGHT.');
  return [...(before ?? []), [text.slice(0, at), text.slice(at + 1)]];
}
