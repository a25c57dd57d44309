import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { arch } from 'node:os';
import { join } from 'node:path';
import { Gauge, gaugeArguments } from '../gauge.js';
import { run } from '../run.js';
import { READY_TIMEOUT_MS, type CaseSetup, type Home } from './home.js';
import { makeRootfs } from './rootfs.js';
import { startDetached } from './runc-home.js';

/**
 * The gauge in a containerd container with the host's network. The daemon is the one that `ctr` talks to
 * ($CONTAINERD_ADDRESS); the CRIU is the one on the daemon's PATH.
 */
export class ContainerdHome implements Home {
  private constructor(
    readonly gauge: Gauge,
    readonly id: string,
    private readonly image: string,
    private readonly dir: string,
  ) {}

  static async start(setup: CaseSetup): Promise<ContainerdHome> {
    const dir = join(setup.scratchDir, 'containerd');
    const status = join(setup.statusDir, 'containerd');
    const id = `stillframe-bench-containerd-${process.pid}`;
    const image = `localhost/${id}:latest`;
    await mkdir(status, { recursive: true });
    await makeRootfs(join(dir, 'rootfs'));
    await run('ctr', ['image', 'import', await imageArchive(dir, image)]);
    const mount = `type=bind,src=${status},dst=/status,options=rbind:rw`;
    const args = ['/bin/gauge', ...gaugeArguments(setup.scenario, { statusPath: '/status/page', filesDir: '/data' })];
    await startDetached('ctr', ['run', '--detach', '--net-host', '--mount', mount, image, id, ...args]);
    const pid = taskPid(await run('ctr', ['task', 'list']), id);
    const gauge = await Gauge.open(join(status, 'page'), {
      timeoutMs: READY_TIMEOUT_MS,
      alive: () => existsSync(`/proc/${pid}`),
    });
    Gauge.prefer(pid);
    return new ContainerdHome(gauge, id, image, dir);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run('ctr', ['task', 'delete', '--force', this.id]);
    await run('ctr', ['container', 'delete', this.id]);
    await run('ctr', ['image', 'remove', '--sync', this.image]);
    this.gauge[Symbol.dispose]();
    await rm(this.dir, { recursive: true, force: true });
  }
}

function taskPid(list: string, id: string): number {
  const line = list.split('\n').find((text) => text.startsWith(`${id} `));
  return Number(line?.split(/\s+/)[1]);
}

/** An image of one layer in the format of `docker save`. */
async function imageArchive(dir: string, name: string): Promise<string> {
  const layer = join(dir, 'layer.tar');
  await run('tar', ['--create', '--file', layer, '--directory', join(dir, 'rootfs'), '.']);
  const diffId = `sha256:${createHash('sha256')
    .update(await readFile(layer))
    .digest('hex')}`;
  const architecture = arch() === 'x64' ? 'amd64' : arch();
  await writeFile(
    join(dir, 'config.json'),
    JSON.stringify({ architecture, os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: [diffId] } }),
  );
  await writeFile(
    join(dir, 'manifest.json'),
    JSON.stringify([{ Config: 'config.json', RepoTags: [name], Layers: ['layer.tar'] }]),
  );
  const archive = join(dir, 'image.tar');
  await run('tar', ['--create', '--file', archive, '--directory', dir, 'manifest.json', 'config.json', 'layer.tar']);
  return archive;
}
