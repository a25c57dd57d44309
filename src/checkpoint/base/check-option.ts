/** What options must be: each throws CheckpointError BAD_OPTION, or NOT_ROOT, before anything is touched. */
import { resolve } from 'node:path';
import { isSource } from '../../archive/index.js';
import { badPath } from '../../bad-option.js';
import { STATE_DIR } from '../../state-dir.js';
import { CheckpointError } from './checkpoint-error.js';

export function requireRoot(action: string): void {
  const uid = process.geteuid?.() ?? 0;
  if (uid !== 0) throw new CheckpointError('NOT_ROOT', { action, uid });
}

export function requirePid(option: string, value: number): void {
  if (!Number.isSafeInteger(value) || value <= 0) bad(option, value, 'a process id');
}

export function requirePath(option: string, value: unknown): void {
  const wrong = badPath(option, value);
  if (wrong !== undefined) throw new CheckpointError('BAD_OPTION', wrong);
}

/** Of an archive. */
export function requireSource(option: string, source: unknown): void {
  if (!isSource(source)) bad(option, source, 'a path, an open file, or a stream');
}

export function optional<T>(option: string, value: T | undefined, check: (option: string, value: T) => void): void {
  if (value !== undefined) check(option, value);
}

export function flag(option: string, value: unknown, byDefault: boolean): boolean {
  if (value !== undefined && typeof value !== 'boolean') bad(option, value, 'true or false');
  return (value as boolean | undefined) ?? byDefault;
}

export function count(option: string, value: unknown, byDefault: number): number {
  if (value !== undefined && !(Number.isSafeInteger(value) && (value as number) >= 0))
    bad(option, value, 'a whole number, 0 or more');
  return (value as number | undefined) ?? byDefault;
}

export function milliseconds(option: string, value: unknown, byDefault: number): number {
  if (value !== undefined && (typeof value !== 'number' || !(value >= 0) || !Number.isFinite(value)))
    bad(option, value, 'a number of milliseconds');
  return (value as number | undefined) ?? byDefault;
}

/** How long a window may take, and who guards it. */
export interface WindowSettings {
  maxFrozenMs: number | undefined;
  freezeTimeoutMs: number;
  thawTimeoutMs: number;
  placeGuardianIn: string | undefined;
  stateDir: string;
}

/** Paths are taken as they are: see `requirePath`. */
export function windowSettings(options: { [Option in keyof WindowSettings]?: WindowSettings[Option] | undefined }) {
  const { maxFrozenMs, placeGuardianIn } = options;
  return {
    maxFrozenMs: maxFrozenMs === undefined ? undefined : milliseconds('maxFrozenMs', maxFrozenMs, 0),
    freezeTimeoutMs: milliseconds('freezeTimeoutMs', options.freezeTimeoutMs, 2000),
    thawTimeoutMs: milliseconds('thawTimeoutMs', options.thawTimeoutMs, 5000),
    placeGuardianIn,
    stateDir: resolve(options.stateDir ?? STATE_DIR),
  };
}

export function refuseAdoptedCgroup({ cgroup, adopt }: { cgroup?: string | undefined; adopt?: boolean | undefined }) {
  if (cgroup !== undefined && adopt === true)
    bad('adopt', true, 'no cgroup beside it: an adopted tree gets a cgroup of its own');
}

export function bad(option: string, value: unknown, expected: string): never {
  throw new CheckpointError('BAD_OPTION', { option, value, expected });
}
