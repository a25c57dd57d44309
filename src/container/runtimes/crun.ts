import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Container } from '../model/container.js';
import { isRunning } from '../../proc/identity.js';
import { ContainerError } from '../model/container-error.js';
import type { RuntimeOptions } from './runc.js';
import { engineFacts, imageOf } from '../model/engine.js';
import { readSpec, rootfsOf } from '../model/spec.js';
import { field, findStateDir, hasOwnUserNamespace, readStateFile, type StateLayout } from './state-file.js';

export const crunLayout: StateLayout = { runtime: 'crun', fileName: 'status', below: ['crun'] };

/**
 * A running (or paused) container of crun, from its status file. crun keeps a copy of the configuration beside it.
 * Source: src/libcrun/status.c, crun 1.8 to 1.29.
 * @throws ContainerError NO_SUCH_CONTAINER, AMBIGUOUS_CONTAINER, CONTAINER_NOT_RUNNING, CONTAINER_ROOTLESS,
 * STATE_UNREADABLE, BUNDLE_UNREADABLE
 */
export async function crunContainer(id: string, options: RuntimeOptions = {}): Promise<Container> {
  const dir = findStateDir(crunLayout, id, options.stateRoot);
  const path = join(dir, crunLayout.fileName);
  const state = await readStateFile(path);

  const pid = field(path, state, 'pid', 'number');
  if (!isRunning({ pid, startTime: String(field(path, state, 'process-start-time', 'number')) }))
    throw new ContainerError('CONTAINER_NOT_RUNNING', { runtime: 'crun', id, state: 'stopped' });
  if (existsSync(join(dir, 'exec.fifo')))
    throw new ContainerError('CONTAINER_NOT_RUNNING', { runtime: 'crun', id, state: 'created, but not started' });
  if (hasOwnUserNamespace(pid)) throw new ContainerError('CONTAINER_ROOTLESS', { runtime: 'crun', id });

  const bundle = options.bundle ?? field(path, state, 'bundle', 'string');
  const spec = await readSpec(existsSync(join(dir, 'config.json')) && options.bundle === undefined ? dir : bundle);
  const rootfs = state['rootfs'];
  const facts = engineFacts(spec);
  return {
    runtime: 'crun',
    ociRuntime: 'crun',
    id,
    name: facts.name ?? id,
    pid,
    bundle,
    spec,
    rootfs: typeof rootfs === 'string' && rootfs.startsWith('/') ? rootfs : rootfsOf(spec, bundle),
    descriptors: descriptorsOf(path, state),
    createdAt: field(path, state, 'created', 'string'),
    ...imageOf(facts),
  };
}

/** crun keeps the list as JSON inside a JSON string. */
function descriptorsOf(path: string, state: Record<string, unknown>): string[] {
  const text = state['external_descriptors'];
  if (text === undefined || text === '') return [];
  try {
    const list: unknown = JSON.parse(String(text));
    if (!Array.isArray(list)) throw new Error('no list');
    return list.map(String);
  } catch (cause) {
    throw new ContainerError('STATE_UNREADABLE', { path, what: 'its external_descriptors cannot be read', cause });
  }
}
