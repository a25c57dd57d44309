import { existsSync, type Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { locateCgroup } from '../../cgroup/index.js';
import type { Container } from '../model/container.js';
import { ContainerError } from '../model/container-error.js';
import { crunContainer, crunLayout } from './crun.js';
import { runcContainer, runcLayout } from './runc.js';
import { defaultRoots, type StateLayout } from './state-file.js';

/** The running containers of runc and crun whose freezer cgroup is below another: a pod's. */
export async function containersBelow(parentCgroup: string, stateRoot?: string): Promise<Container[]> {
  const found: Container[] = [];
  for (const [layout, find] of [
    [runcLayout, runcContainer],
    [crunLayout, crunContainer],
  ] as const) {
    for (const root of stateRoot === undefined ? defaultRoots(layout) : [stateRoot]) {
      for (const id of await idsIn(root, layout)) {
        const container = await running(() => find(id, { stateRoot: root }));
        if (container !== undefined && isBelow(container, parentCgroup)) found.push(container);
      }
    }
  }
  return found;
}

async function idsIn(root: string, { fileName }: StateLayout): Promise<string[]> {
  const entries = await readdir(root, { withFileTypes: true }).catch((): Dirent[] => []);
  const ids: string[] = [];
  for (const entry of entries) {
    if (entry.isDirectory() && existsSync(join(root, entry.name, fileName))) ids.push(entry.name);
  }
  return ids;
}

/** Containers that have ended, are about to start, or belong to a user are none of the pod's running ones. */
async function running(find: () => Promise<Container>): Promise<Container | undefined> {
  try {
    return await find();
  } catch (error) {
    if (
      error instanceof ContainerError &&
      ['CONTAINER_NOT_RUNNING', 'CONTAINER_ROOTLESS', 'NO_SUCH_CONTAINER'].includes(error.code)
    )
      return undefined;
    throw error;
  }
}

function isBelow({ cgroup, pid }: Container, parent: string): boolean {
  const path = cgroup ?? locateCgroup(pid).path;
  const prefix = parent.endsWith(sep) ? parent : `${parent}${sep}`;
  return path.startsWith(prefix);
}
