import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { readProc, selfAndAncestors } from '../../proc/task.js';
import { ContainerError } from '../model/container-error.js';
import { run } from './command.js';
import { crunLayout } from './crun.js';
import { runcLayout } from './runc.js';
import { defaultRoots, type StateLayout } from './state-file.js';

/** The container that a process is in. */
export interface ContainerOfProcess {
  /** Who manages it, for people: "Podman", "Docker", "CRI-O", "containerd", "runc", "crun". */
  engine: string;
  /** By which option of `checkpointContainer` it is taken, and with which value. */
  runtime: 'runc' | 'crun' | 'podman';
  name: string;
}

/** Names of the engines' cgroups: of systemd's scopes, and of plain directories. */
const CGROUPS: readonly (readonly [engine: string, name: RegExp])[] = [
  ['Podman', /\/libpod-([0-9a-f]{64})(?:\.scope)?(?:\/|$)/m],
  ['Docker', /\/docker[-/]([0-9a-f]{64})(?:\.scope)?(?:\/|$)/m],
  ['CRI-O', /\/crio-([0-9a-f]{64})(?:\.scope)?(?:\/|$)/m],
  ['containerd', /(?:\/|:)cri-containerd[-:]([0-9a-f]{64})(?:\.scope)?(?:\/|$)/m],
  ['containerd', /\/kubepods[^\n]*\/([0-9a-f]{64})(?:\/|$)/m],
];

/**
 * The container that a process is in: by the name of its cgroup, or because it comes of the init process of one of
 * runc's or crun's. Undefined where it has our own mounts: a plain process, or one beside us in our own container.
 * @throws ContainerError BAD_OPTION
 */
export async function containerOf(pid: number): Promise<ContainerOfProcess | undefined> {
  if (!Number.isInteger(pid) || pid <= 0)
    throw new ContainerError('BAD_OPTION', { option: 'pid', value: pid, expected: 'a process id' });
  if (mountNamespace(pid) === mountNamespace('self')) return undefined;
  const cgroups = readProc(`${pid}/cgroup`) ?? '';
  const own = readProc('self/cgroup') ?? '';
  for (const [engine, name] of CGROUPS) {
    const id = name.exec(cgroups)?.[1];
    if (id === undefined || own.includes(id)) continue;
    if (engine === 'Podman') return { engine, runtime: 'podman', name: await podmanName(id) };
    return { engine, runtime: stateDirs(crunLayout).some((dir) => dir.endsWith(`/${id}`)) ? 'crun' : 'runc', name: id };
  }
  const ancestors = new Set(selfAndAncestors(pid).map((process) => process.pid));
  return byInit(runcLayout, 'init_process_pid', ancestors) ?? byInit(crunLayout, 'pid', ancestors);
}

function mountNamespace(pid: number | 'self'): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`);
  } catch {
    return undefined; // it has ended
  }
}

async function podmanName(id: string): Promise<string> {
  const { stdout } = await run('podman', ['container', 'inspect', '--format', '{{.Name}}', id]).catch(() => ({
    stdout: '',
  }));
  return stdout.trim() || id;
}

/** Of another user than root, whose attempt is refused as such later on, nothing can be read there. */
function stateDirs(layout: StateLayout): string[] {
  return defaultRoots(layout).flatMap((root) => {
    try {
      return readdirSync(root).map((id) => join(root, id));
    } catch {
      return [];
    }
  });
}

function byInit(
  layout: StateLayout & { runtime: string },
  field: string,
  ancestors: ReadonlySet<number>,
): ContainerOfProcess | undefined {
  for (const dir of stateDirs(layout)) {
    const path = join(dir, layout.fileName);
    if (!existsSync(path)) continue;
    try {
      const state = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
      if (ancestors.has(state[field] as number))
        return {
          engine: layout.runtime,
          runtime: layout.runtime as 'runc' | 'crun',
          name: dir.slice(dir.lastIndexOf('/') + 1),
        };
    } catch {
      continue; // it is being removed
    }
  }
  return undefined;
}
