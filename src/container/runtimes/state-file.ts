import { existsSync, readdirSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ContainerError } from '../model/container-error.js';

/** How one runtime keeps what it knows of a container. */
export interface StateLayout {
  runtime: string;
  /** The file below STATE_ROOT/ID. */
  fileName: string;
  /** Where the state root is below a run directory (`/run`, `/run/user/UID`). */
  below: string[];
}

/**
 * The state directory of a container: in `stateRoot`, or else in the first places where runtimes and the
 * engines above them keep it.
 * @throws ContainerError NO_SUCH_CONTAINER, AMBIGUOUS_CONTAINER
 */
export function findStateDir(layout: StateLayout, id: string, stateRoot?: string): string {
  // An id is one directory's name: anything else would lead outside the state root.
  if (id === '' || id === '.' || id === '..' || id.includes('/') || id.includes('\0')) {
    throw new ContainerError('BAD_OPTION', {
      option: layout.runtime,
      value: id,
      expected: 'the id of a container',
    });
  }
  const roots = stateRoot === undefined ? defaultRoots(layout) : [stateRoot];
  const found = roots.filter((root) => existsSync(join(root, id, layout.fileName)));
  if (found.length > 1) throw new ContainerError('AMBIGUOUS_CONTAINER', { runtime: layout.runtime, id, roots: found });
  const [root] = found;
  if (root === undefined)
    throw new ContainerError('NO_SUCH_CONTAINER', { runtime: layout.runtime, id, searched: roots });
  return join(root, id);
}

/** Where a runtime that is given this state root, or none, will keep the state of a container that it makes. */
export function stateFileOf({ below, fileName }: StateLayout, id: string, stateRoot?: string): string {
  return join(resolve(stateRoot ?? join('/run', below[0] as string)), id, fileName);
}

/** The JSON of a state file. It is replaced by rename, so that a reader always sees a whole one. */
export async function readStateFile(path: string): Promise<Record<string, unknown>> {
  try {
    const state: unknown = JSON.parse(await readFile(path, 'utf8'));
    if (typeof state !== 'object' || state === null) throw new Error('not a JSON object');
    return state as Record<string, unknown>;
  } catch (cause) {
    throw new ContainerError('STATE_UNREADABLE', { path, cause });
  }
}

/** A field of a state file. @throws ContainerError STATE_UNREADABLE */
export function field<T extends 'string' | 'number'>(
  path: string,
  state: Record<string, unknown>,
  name: string,
  type: T,
): T extends 'string' ? string : number {
  const value = state[name];
  if (typeof value !== type)
    throw new ContainerError('STATE_UNREADABLE', { path, what: `its ${name} is ${JSON.stringify(value)}` });
  return value as T extends 'string' ? string : number;
}

/** A user namespace of its own: what makes a container rootless for CRIU. */
export function hasOwnUserNamespace(pid: number): boolean {
  return (
    statSync(`/proc/${pid}/ns/user`, { bigint: true }).ino !== statSync('/proc/self/ns/user', { bigint: true }).ino
  );
}

/** Where state roots are on this machine. */
export function defaultRoots({ below }: StateLayout): string[] {
  const runDirs = ['/run', ...userRunDirs()];
  const { XDG_RUNTIME_DIR: own } = process.env;
  if (own !== undefined && own !== '' && !runDirs.includes(own)) runDirs.push(own);
  return runDirs.flatMap((run) => below.map((dir) => join(run, dir))).filter((root) => existsSync(root));
}

function userRunDirs(): string[] {
  try {
    return readdirSync('/run/user').map((uid) => join('/run/user', uid));
  } catch {
    return []; // no logind
  }
}
