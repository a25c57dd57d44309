import { arch, release } from 'node:os';
import type { CgroupMember } from '../../cgroup/index.js';
import type { CriuOptions } from '../../criu/index.js';
import { CheckpointError } from './checkpoint-error.js';
import { parseOrigin, type ProgramOrigin } from '../program/record.js';
import type { Warning } from '../warnings/warning.js';

/** What the archive's manifest says was dumped; what a restore needs to know besides the images. */
export interface Subject {
  kind: 'process-tree';
  createdAt: string;
  kernel: { release: string; arch: string };
  criu: { version: string };
  /** The root of the tree. */
  pid: number;
  cgroup: {
    version: 1 | 2;
    /** The tree's home in the hierarchy: "/" when it was in the root cgroup. */
    name: string;
    /** Each process, and its cgroup relative to that home ("" for the home itself). */
    members: CgroupMember[];
  };
  /**
   * How long the tree stood still, in milliseconds. Unknown (undefined) when the archive was sealed inside the window.
   */
  windowMs?: number;
  /** The options of the dump that the restore has to repeat. */
  criuOptions: RepeatedOptions;
  /** Under which name it ran, if it had one. */
  program?: ProgramOrigin | undefined;
  /** What the checkpoint warned of: written for people and for `inspect`. Archives of older versions have none. */
  warnings?: readonly Warning[];
}

/** Options that CRIU wants on restore as they were on dump. */
export type RepeatedOptions = Pick<
  CriuOptions,
  'shellJob' | 'tcpEstablished' | 'tcpClose' | 'fileLocks' | 'extUnixSk' | 'linkRemap'
>;

const REPEATED = [
  'shellJob',
  'tcpEstablished',
  'tcpClose',
  'fileLocks',
  'extUnixSk',
  'linkRemap',
] as const satisfies (keyof RepeatedOptions)[];

export function repeatedOptions(dump: Partial<Record<keyof RepeatedOptions, unknown>>): RepeatedOptions {
  return Object.fromEntries(REPEATED.filter((name) => dump[name] !== undefined).map((name) => [name, dump[name]]));
}

export function thisKernel(): Subject['kernel'] {
  return { release: release(), arch: arch() };
}

/**
 * A manifest's subject, checked field by field: an archive may come from anywhere.
 * @throws CheckpointError NOT_A_CHECKPOINT
 */
export function parseSubject(value: Record<string, unknown>, archivePath: string): Subject {
  const wrong = (what: string): CheckpointError => new CheckpointError('NOT_A_CHECKPOINT', { archivePath, what });
  if (value['kind'] === 'container')
    throw new CheckpointError('NOT_A_CHECKPOINT', { archivePath, what: "it is a container's", kind: 'container' });
  if (value['kind'] !== 'process-tree') throw wrong(`its kind is ${shown(value['kind'])}`);
  const { pid, criuOptions, windowMs, program } = value;
  if (!isPid(pid)) throw wrong('it names no pid');
  const { createdAt, kernel, criu, cgroup } = recordedOrigin(value, wrong);
  if (!isRecord(cgroup) || (cgroup['version'] !== 1 && cgroup['version'] !== 2) || !isCgroupName(cgroup['name']))
    throw wrong('it names no cgroup');
  if (!Array.isArray(cgroup['members']) || !cgroup['members'].every(isMember))
    throw wrong('its list of processes is damaged');
  if (kernel.arch !== arch()) throw wrong(`it is of a machine of another kind (${kernel.arch}, this one is ${arch()})`);
  if (!isRecord(criuOptions)) throw wrong('it names no options of CRIU');
  const repeated = repeatedOptions(criuOptions);
  if (!Object.values(repeated).every((option) => typeof option === 'boolean'))
    throw wrong('its options of CRIU are none');
  return {
    ...value,
    kind: 'process-tree',
    createdAt,
    kernel,
    criu,
    pid,
    cgroup: { version: cgroup['version'], name: cgroup['name'], members: cgroup['members'] as CgroupMember[] },
    program: parseOrigin(program),
    ...(typeof windowMs === 'number' ? { windowMs } : {}),
    criuOptions: repeated,
  };
}

/**
 * When, on which kernel and by which CRIU it was made: what the subjects of process trees and of containers have in
 * common.
 * @throws what `wrong` makes of the words
 */
export function recordedOrigin(
  { createdAt, kernel, criu, cgroup }: Record<string, unknown>,
  wrong: (what: string) => Error,
): Pick<Subject, 'createdAt' | 'kernel' | 'criu'> & { cgroup: unknown } {
  if (typeof createdAt !== 'string') throw wrong('it does not say when it was made');
  if (!isRecord(kernel) || typeof kernel['release'] !== 'string' || typeof kernel['arch'] !== 'string')
    throw wrong('it names no kernel');
  if (!isRecord(criu) || typeof criu['version'] !== 'string') throw wrong('it names no CRIU');
  return {
    createdAt,
    kernel: { release: kernel['release'], arch: kernel['arch'] },
    criu: { version: criu['version'] },
    cgroup,
  };
}

/** A value of an archive, in an error: whatever it is, and not at length. */
export function shown(value: unknown): string {
  return (typeof value === 'string' ? value : (JSON.stringify(value) ?? 'missing')).slice(0, 100);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isMember(value: unknown): value is CgroupMember {
  return (
    isRecord(value) && isPid(value['pid']) && typeof value['cgroup'] === 'string' && isCgroupName(`/${value['cgroup']}`)
  );
}

function isPid(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

/** A name in a cgroup hierarchy: it becomes a path, so it must not lead out of it. */
function isCgroupName(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    value.startsWith('/') &&
    !value.includes('\0') &&
    !value.split('/').some((part) => part === '..' || part === '.')
  );
}
