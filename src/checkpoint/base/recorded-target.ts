import { arch, release } from 'node:os';
import type { CgroupMember } from '../../cgroup/index.js';
import type { CriuOptions } from '../../criu/index.js';
import { CheckpointError } from './checkpoint-error.js';

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
  /** How long the tree stood still, in milliseconds. Unknown (undefined) when the archive was sealed inside the window. */
  windowMs?: number;
  /** The options of the dump that the restore has to repeat. */
  criuOptions: RepeatedOptions;
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

export function repeatedOptions(dump: CriuOptions): RepeatedOptions {
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
  const subject = value as Partial<Subject>;
  if (subject.kind !== 'process-tree') throw wrong(`its kind is ${String(value['kind'])}`);
  if (!isPid(subject.pid)) throw wrong('it names no pid');
  const { cgroup, kernel } = subject;
  if (typeof cgroup !== 'object' || (cgroup.version !== 1 && cgroup.version !== 2) || !isCgroupName(cgroup.name))
    throw wrong('it names no cgroup');
  if (
    !Array.isArray(cgroup.members) ||
    !cgroup.members.every((m) => isPid(m.pid) && (m.cgroup === '' || isCgroupName(`/${m.cgroup}`)))
  )
    throw wrong('its list of processes is damaged');
  if (kernel?.arch !== arch())
    throw wrong(`it is of a machine of another kind (${String(kernel?.arch)}, this one is ${arch()})`);
  if (typeof subject.criuOptions !== 'object') throw wrong('it names no options of CRIU');
  return { ...(value as unknown as Subject), criuOptions: repeatedOptions(subject.criuOptions) };
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
