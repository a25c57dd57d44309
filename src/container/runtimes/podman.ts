import { existsSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { run } from './command.js';
import type { Container, PodmanRecord } from '../model/container.js';
import { ContainerError } from '../model/container-error.js';
import { crunContainer } from './crun.js';
import { readPodmanDatabase, type PodmanRecords } from './podman-database.js';
import { runcContainer } from './runc.js';

export interface PodmanOptions {
  /** Options before the subcommand, such as `--root DIR --runroot DIR`. */
  podmanOptions?: readonly string[];
}

/** The part of `podman container inspect` that is used. */
interface Inspection {
  Id: string;
  Name: string;
  Created: string;
  StaticDir: string;
  OCIConfigPath: string;
  OCIRuntime: string;
  Image: string;
  ImageName: string;
  State: { Status: string; Running: boolean; Paused: boolean };
  Mounts?: { Type: string; Name?: string; Source: string; Destination: string }[];
  HostConfig?: { LogConfig?: { Type?: string; Path?: string } };
}

/**
 * A running (or paused) container of Podman, by its name or id.
 * @throws ContainerError RUNTIME_MISSING, NO_SUCH_CONTAINER, CONTAINER_NOT_RUNNING, PODMAN_DATABASE, and those of the
 * low-level runtime
 */
export async function podmanContainer(
  nameOrId: string,
  { podmanOptions = [] }: PodmanOptions = {},
): Promise<Container> {
  const inspection = await inspect(nameOrId, podmanOptions);
  const { Id: id, Name: name, State: state, StaticDir: staticDir } = inspection;
  if (!state.Running && !state.Paused)
    throw new ContainerError('CONTAINER_NOT_RUNNING', { runtime: 'podman', id: name, state: state.Status });

  const below = basename(inspection.OCIRuntime) === 'crun' ? crunContainer : runcContainer;
  const container = await below(id, { bundle: dirname(inspection.OCIConfigPath) });
  // STATIC_DIR is GRAPH_ROOT/overlay-containers/ID/userdata.
  const records = await readPodmanDatabase(dirname(dirname(dirname(staticDir))), id);
  return {
    ...container,
    runtime: 'podman',
    ociRuntime: inspection.OCIRuntime,
    name,
    createdAt: inspection.Created,
    image: { name: inspection.ImageName, id: inspection.Image },
    podman: podmanRecord(inspection, records),
  };
}

async function inspect(nameOrId: string, podmanOptions: readonly string[]): Promise<Inspection> {
  try {
    const { stdout } = await run('podman', [...podmanOptions, 'container', 'inspect', nameOrId]);
    const [inspection] = JSON.parse(stdout) as Inspection[];
    if (inspection === undefined) throw new Error('an empty answer');
    return inspection;
  } catch (cause) {
    // Exit status 125 is Podman's own failure, and its standard error says which.
    const stderr = cause instanceof ContainerError && 'stderr' in cause.facts ? cause.facts.stderr : '';
    if (/no such (container|object)/i.test(stderr))
      throw new ContainerError('NO_SUCH_CONTAINER', {
        runtime: 'podman',
        id: nameOrId,
        searched: ["Podman's database"],
        cause,
      });
    throw cause;
  }
}

function podmanRecord({ Id: id, Mounts: mounts = [], HostConfig }: Inspection, records: PodmanRecords): PodmanRecord {
  const config = JSON.parse(records.config) as { ShmDir?: string; logPath?: string };
  const state = JSON.parse(records.state) as { networkStatus?: unknown };
  const logPath = config.logPath ?? HostConfig?.LogConfig?.Path;
  return {
    config: Buffer.from(withNetworks(records, id)),
    networkStatus: state.networkStatus ?? null,
    ...(logPath !== undefined && existsSync(logPath) ? { logPath } : {}),
    ...(config.ShmDir === undefined || config.ShmDir === '' ? {} : { shmDir: config.ShmDir }),
    volumes: mounts
      .filter((mount) => mount.Type === 'volume' && mount.Name !== undefined)
      .map((mount) => ({ name: mount.Name as string, destination: mount.Destination, mountPoint: mount.Source })),
  };
}

/**
 * The configuration with the networks of the database in it, as Podman's own export has it. It is put in as text: the
 * configuration holds 64-bit numbers (an unlimited rlimit) that JavaScript's JSON would round.
 * Source: libpod/container_internal.go, prepareCheckpointExport, v4.3.1.
 */
export function withNetworks({ config, networks }: Pick<PodmanRecords, 'config' | 'networks'>, id: string): string {
  if (networks.size === 0) return config;
  const entries = [...networks].map(([name, json]) => {
    const options = JSON.parse(json) as { aliases?: string[] };
    // The short id is an alias of this container only: a restored one may get another id.
    if (options.aliases !== undefined) options.aliases = options.aliases.filter((alias) => alias !== id.slice(0, 12));
    return `${JSON.stringify(name)}:${JSON.stringify(options)}`;
  });
  const end = config.lastIndexOf('}');
  return `${config.slice(0, end)},"newNetworks":{${entries.join(',')}}${config.slice(end)}`;
}
