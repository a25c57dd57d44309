import type { InspectedImages } from '../index.js';
import { table } from './table.js';

export function mountsText({ mounts = [] }: InspectedImages): string {
  if (mounts.length === 0) return 'mounts: none recorded; the processes used those of the machine';
  return table(
    ['namespace', 'id', 'on', 'type', 'mount point', 'source', 'directory of it', 'options', 'external'],
    mounts.map(({ namespace, id, parentId, type, mountPoint, source, root, options, external }) => [
      ...[namespace, id, parentId, type ?? '', mountPoint, source, root, options, external ? 'yes' : ''],
    ]),
  );
}

export function cgroupsText({ processes, cgroups = [] }: InspectedImages): string {
  const memberships = table(
    ['pid', 'controllers', 'cgroup'],
    processes.flatMap(({ pid, cgroups: of = [] }) =>
      of.map(({ controllers, path }) => [pid, controllers === '' ? '(v2)' : controllers, path]),
    ),
  );
  const properties = cgroups.flatMap(({ controllers, path, properties: set }) =>
    set.map(({ name, value }) => [path, controllers === '' ? '(v2)' : controllers, name, value]),
  );
  if (properties.length === 0) return memberships;
  return `${memberships}\n\n${table(['cgroup', 'controllers', 'property', 'value'], properties)}`;
}
