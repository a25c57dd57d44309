/**
 * The CRIU options of a container's dump, chosen so that `runc restore` and `crun restore` take the images: what is
 * external on dump must carry the key that their restore will name.
 * Source: runc v1.5.1, libcontainer/criu_linux.go; crun 1.29, src/libcrun/criu.c.
 */
import { existsSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { errnoOf } from '../../errors.js';
import type { CriuDumpOptions } from '../../criu/index.js';
import type { Container } from '../model/container.js';
import { mountAt, type Mount } from './mounts.js';
import { resolveInRoot } from './resolve-in-root.js';
import { isBindMount, namespaceOf, type OciSpec } from '../model/spec.js';

/** Device nodes that runc has in every container; in a user namespace they are bind mounts. */
const DEFAULT_DEVICES = ['/dev/null', '/dev/random', '/dev/full', '/dev/tty', '/dev/zero', '/dev/urandom'];

/** Below crun's state root. Source: crun 1.28, src/libcrun/status.c. */
const CRUN_EMPTY_DIRECTORY = '/.empty-directory';

const RUNTIMES_CONFIG = '/etc/criu/runc.conf';

export interface ContainerSituation {
  mounts: readonly Mount[];
  /** Some task has a TCP connection, or may have one when it is frozen. */
  hasConnections: boolean;
}

export function containerDumpOptions(
  container: Container,
  { mounts, hasConnections }: ContainerSituation,
): CriuDumpOptions {
  const { spec } = container;
  return {
    root: container.rootfs,
    // Ours are recorded by the runtime too, which places the restored tasks and then lets CRIU find its cgroups there.
    manageCgroups: 'default',
    // The runtimes make the namespace anew, with nothing in it; the engine above them fills it.
    emptyNs: ['net'],
    orphanPtsMaster: true,
    shellJob: false,
    fileLocks: true,
    tcpEstablished: hasConnections,
    // Silencing the network costs 70 to 100 ms of the frozen window, and has nothing to guard without a connection.
    ...(hasConnections ? {} : { networkLock: 'skip' as const }),
    ...configFile(spec),
    external: [
      ...namespaces(spec),
      ...externalMounts(container, mounts).map(([key, value]) => `mnt[${key}]:${value}`),
      ...maskedPaths(container, mounts),
    ],
  };
}

/** A namespace that the container was put into comes from outside again on restore. */
function namespaces(spec: OciSpec): string[] {
  return (['network', 'pid'] as const).flatMap((type) => {
    const path = namespaceOf(spec, type)?.path;
    if (path === undefined || path === '') return [];
    const kind = type === 'network' ? 'net' : 'pid';
    return [`${kind}[${statSync(path, { bigint: true }).ino}]:extRoot${kind === 'net' ? 'Net' : 'Pid'}NS`];
  });
}

/** Bind mounts, v1 cgroup mounts, and devices: each by its place in the container, which is also its key. */
function externalMounts({ spec, pid }: Container, mounts: readonly Mount[]): [key: string, value: string][] {
  const binds = (spec.mounts ?? [])
    .filter(isBindMount)
    .map(({ destination }) => resolveInRoot(`/proc/${pid}/root`, destination));
  // In a cgroup namespace of its own the container mounts its hierarchies itself; CRIU knows how to.
  const cgroups =
    namespaceOf(spec, 'cgroup') === undefined
      ? mounts.filter(({ fsType }) => fsType === 'cgroup').map(({ mountPoint }) => mountPoint)
      : [];
  const devices = [...DEFAULT_DEVICES, ...(spec.linux?.devices ?? []).map(({ path }) => path)];
  return [...new Set([...binds, ...cgroups, ...devices])].map((place) => [place, place]);
}

/**
 * A masked file is /dev/null bound over it. A masked directory is an empty tmpfs, which CRIU dumps itself; or, since
 * crun 1.20, an empty directory of crun's own bound over it. crun's restore gives both by their place as the key.
 */
function maskedPaths({ spec, pid, ociRuntime }: Container, mounts: readonly Mount[]): string[] {
  const byCrun = basename(ociRuntime) === 'crun';
  const isExternal = (path: string): boolean =>
    isFile(join(`/proc/${pid}/root`, path)) || mountAt(mounts, path)?.root.endsWith(CRUN_EMPTY_DIRECTORY) === true;
  return (spec.linux?.maskedPaths ?? [])
    .filter(isExternal)
    .map((path) => `mnt[${path}]:${byCrun ? path : '/dev/null'}`);
}

function isFile(path: string): boolean {
  try {
    return !statSync(path).isDirectory();
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return false;
    throw error;
  }
}

/** CRIU's configuration for containers, as the runtimes name it; its options win over ours. */
function configFile({ annotations = {} }: OciSpec): CriuDumpOptions {
  const named = annotations['org.criu.config'] ?? [RUNTIMES_CONFIG].find((path) => existsSync(path)) ?? '';
  return named === '' ? {} : { configFile: named };
}
