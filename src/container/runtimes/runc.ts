import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Container } from '../model/container.js';
import { isRunning } from '../../proc/identity.js';
import { ContainerError } from '../model/container-error.js';
import { engineFacts, imageOf } from '../model/engine.js';
import { readSpec, rootfsOf } from '../model/spec.js';
import { field, findStateDir, hasOwnUserNamespace, readStateFile, type StateLayout } from './state-file.js';

/** runc's own root, and the roots that containerd, Docker and CRI-O give it. */
export const runcLayout: StateLayout = {
  runtime: 'runc',
  fileName: 'state.json',
  below: [
    'runc',
    'containerd/runc/k8s.io',
    'containerd/runc/default',
    'containerd/runc/moby',
    'docker/runtime-runc/moby',
  ],
};

export interface RuntimeOptions {
  /** The runtime's state directory (`--root`). Default: those that runtimes and engines use are searched. */
  stateRoot?: string;
  /** The directory with config.json. Default: the one in the runtime's state. */
  bundle?: string;
}

/**
 * A running (or paused) container of runc, from its state file.
 * Source: libcontainer/state_linux.go and container_linux.go (State), runc v1.1 to v1.5.
 * @throws ContainerError NO_SUCH_CONTAINER, AMBIGUOUS_CONTAINER, CONTAINER_NOT_RUNNING, CONTAINER_ROOTLESS,
 * STATE_UNREADABLE, BUNDLE_UNREADABLE
 */
export async function runcContainer(id: string, options: RuntimeOptions = {}): Promise<Container> {
  const dir = findStateDir(runcLayout, id, options.stateRoot);
  const path = join(dir, runcLayout.fileName);
  const state = await readStateFile(path);

  const pid = field(path, state, 'init_process_pid', 'number');
  if (!isRunning({ pid, startTime: String(field(path, state, 'init_process_start', 'number')) }))
    throw new ContainerError('CONTAINER_NOT_RUNNING', { runtime: 'runc', id, state: 'stopped' });
  // The FIFO waits for `runc start`: the process is runc's own still, not yet the container's.
  if (existsSync(join(dir, 'exec.fifo')))
    throw new ContainerError('CONTAINER_NOT_RUNNING', { runtime: 'runc', id, state: 'created, but not started' });
  if (state['rootless'] === true || hasOwnUserNamespace(pid))
    throw new ContainerError('CONTAINER_ROOTLESS', { runtime: 'runc', id });

  const bundle = options.bundle ?? bundleOf(path, state);
  const spec = await readSpec(bundle);
  const cgroup = freezerCgroup(state);
  const facts = engineFacts(spec);
  return {
    runtime: 'runc',
    ociRuntime: 'runc',
    id,
    name: facts.name ?? id,
    pid,
    ...(cgroup === undefined ? {} : { cgroup }),
    bundle,
    spec,
    rootfs: rootfsOf(spec, bundle),
    descriptors: descriptorsOf(path, state),
    createdAt: field(path, state, 'created', 'string'),
    ...imageOf(facts),
  };
}

/**
 * The labels are the annotations, and runc's own for the bundle behind them: one before it is an annotation of that
 * name, by which a container would have another's configuration read.
 * Source: runc v1.5.1, libcontainer/specconv/spec_linux.go, CreateLibcontainerConfig.
 */
function bundleOf(path: string, state: Record<string, unknown>): string {
  const labels = (state['config'] as { labels?: unknown } | undefined)?.labels;
  const label = Array.isArray(labels)
    ? labels.findLast((entry): entry is string => typeof entry === 'string' && entry.startsWith('bundle='))
    : undefined;
  if (label === undefined) throw new ContainerError('STATE_UNREADABLE', { path, what: 'it names no bundle' });
  return label.slice('bundle='.length);
}

/** v1 paths are listed by controller, the path on v2 under an empty name. */
function freezerCgroup(state: Record<string, unknown>): string | undefined {
  const paths = state['cgroup_paths'] as Record<string, string> | undefined;
  return paths?.['freezer'] ?? paths?.[''];
}

function descriptorsOf(path: string, state: Record<string, unknown>): string[] {
  const descriptors = state['external_descriptors'];
  if (descriptors === undefined || descriptors === null) return [];
  if (!Array.isArray(descriptors))
    throw new ContainerError('STATE_UNREADABLE', { path, what: 'its external_descriptors are no list' });
  return descriptors.map(String);
}
