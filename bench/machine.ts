import { statfsSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem, version } from 'node:os';
import { findCriu, freezerVersions, hierarchyRoot } from '../src/index.js';
import { findProgram, run } from './run.js';

/** What the figures were taken on. */
export interface Machine {
  kernel: string;
  cgroups: string;
  criu: string;
  node: string;
  cpu: string;
  memory: string;
  fileSystem: string;
  peers: string;
  /** Over the last minute, when the run began: other work on the machine. */
  load: string;
}

export async function describeMachine(directory: string): Promise<Machine> {
  const criu = await findCriu();
  return {
    kernel: `${release()} (${version()})`,
    cgroups: freezerVersions()
      .map((v) => `v${v} freezer at ${hierarchyRoot(v) ?? '?'}`)
      .join(', '),
    criu: criu.version,
    node: process.versions.node,
    cpu: `${availableParallelism()} x ${cpus()[0]?.model.trim() ?? 'unknown'}`,
    memory: `${(totalmem() / 2 ** 30).toFixed(1)} GiB`,
    fileSystem: await fileSystemOf(directory),
    peers: await peerVersions(),
    load: loadavg()[0]!.toFixed(2),
  };
}

async function fileSystemOf(directory: string): Promise<string> {
  const type = (await run('df', ['--output=fstype', directory])).trim().split('\n').at(-1);
  const { bsize, bavail } = statfsSync(directory);
  return `${type}, ${((bsize * bavail) / 2 ** 30).toFixed(0)} GiB free`;
}

async function peerVersions(): Promise<string> {
  const known: string[] = [];
  for (const name of ['tar', 'runc', 'podman', 'ctr']) {
    known.push(
      findProgram(name) === undefined ? `${name} missing` : ((await run(name, ['--version'])).split('\n')[0] ?? name),
    );
  }
  return known.join(', ');
}
