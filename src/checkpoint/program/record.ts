/** What the state directory holds of a program that runs under a name: one small file, `names/NAME@PID-START.json`. */
import { readFileSync } from 'node:fs';

/** As in `FileTree`. */
export interface ProgramTree {
  path: string;
  name: string;
}

/** How a program was started, as an archive holds it, too: what a restore needs to give it its name again. */
export interface ProgramOrigin {
  name: string;
  /** The program and its arguments. */
  command: string[];
  /** The file trees that a checkpoint of the name archives, unless it is told others. */
  files: ProgramTree[];
  /** The file that standard output and standard error are appended to. */
  logPath: string | undefined;
}

export interface ProgramRecord extends ProgramOrigin {
  format: 1;
  /** `waiting` and `held`: somebody who is about to start or restore it has the name. See claim.ts. */
  state: 'waiting' | 'held' | 'running';
  /** ISO 8601. */
  since: string;
  bootId: string;
  pidNamespace: string;
  /** `made`: by us, and removed once nothing is in it any more. */
  cgroup: { version: 1 | 2; path: string; made: boolean } | undefined;
  /** Of a program that somebody saw end: ISO 8601, and its status as a shell has it. */
  ended?: { at: string; status: number | undefined };
  lastCheckpoint?: { at: string; archivePath: string };
}

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/;

export const NAME_RULE = 'a name of letters, digits, _, . and -, the first a letter or digit, at most 128 of them';

export function isProgramName(value: unknown): value is string {
  return typeof value === 'string' && NAME.test(value);
}

/** A name for a command that was given none. */
export function nameFromCommand(command: string): string {
  const name = (command.split('/').at(-1) ?? '').replaceAll(/[^a-zA-Z0-9_.-]/g, '-').replace(/^[^a-zA-Z0-9]+/, '');
  return name === '' ? 'program' : name.slice(0, 64);
}

/** `undefined` for what says nothing of the kind. */
export function parseOrigin(value: unknown): ProgramOrigin | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { name, command, files, logPath } = value as Record<keyof ProgramOrigin, unknown>;
  const isWhole =
    isProgramName(name) &&
    Array.isArray(command) &&
    command.every((word) => typeof word === 'string') &&
    Array.isArray(files) &&
    files.every(isTree) &&
    (logPath === undefined || isAbsolute(logPath));
  return isWhole
    ? { name, command, files: files.map(({ name, path }) => ({ name, path })), logPath: logPath as string | undefined }
    : undefined;
}

/** `undefined` when there is no such file any more, or none that this version understands. */
export function readRecord(path: string): ProgramRecord | undefined {
  try {
    const value = JSON.parse(readFileSync(path, 'utf8')) as Partial<ProgramRecord>;
    return value.format === 1 && parseOrigin(value) !== undefined ? (value as ProgramRecord) : undefined;
  } catch {
    return undefined;
  }
}

function isTree(value: unknown): value is ProgramTree {
  const { name, path } = (value ?? {}) as { name?: unknown; path?: unknown };
  return typeof name === 'string' && isAbsolute(path);
}

function isAbsolute(value: unknown): value is string {
  return typeof value === 'string' && value.startsWith('/') && !value.includes('\0');
}
