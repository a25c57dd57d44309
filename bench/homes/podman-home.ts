import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Gauge, gaugeArguments } from '../gauge.js';
import { run } from '../run.js';
import { READY_TIMEOUT_MS, type CaseSetup, type Home } from './home.js';
import { makeRootfs } from './rootfs.js';
import { startDetached } from './runc-home.js';

/** The gauge in a Podman container without a network, its storage in the case's own directory. */
export class PodmanHome implements Home {
  private constructor(
    readonly gauge: Gauge,
    readonly id: string,
    readonly criuDir: string,
    private readonly storage: readonly string[],
    private readonly dir: string,
  ) {}

  static async start(setup: CaseSetup): Promise<PodmanHome> {
    const dir = join(setup.scratchDir, 'podman');
    const status = join(setup.statusDir, 'podman');
    const id = `stillframe-bench-podman-${process.pid}`;
    const storage = ['--root', join(dir, 'root'), '--runroot', join(dir, 'run'), '--tmpdir', join(dir, 'tmp'), '--cgroup-manager', 'cgroupfs', '--events-backend', 'none', '--runtime', 'runc'];
    await mkdir(status, { recursive: true });
    await makeRootfs(join(dir, 'rootfs'));
    await run('tar', ['--create', '--file', join(dir, 'rootfs.tar'), '--directory', join(dir, 'rootfs'), '.']);
    await run('podman', [...storage, 'import', join(dir, 'rootfs.tar'), 'stillframe-bench']);
    const gaugeArgs = ['/bin/gauge', ...gaugeArguments(setup.scenario, { statusPath: '/status/page', filesDir: '/data' })];
    const limits = ['--network', 'none', '--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1000:1000'];
    await startDetached('podman', [...storage, 'run', '--detach', '--name', id, ...limits, '--volume', `${status}:/status`, 'stillframe-bench', ...gaugeArgs]);
    const pid = Number(await run('podman', [...storage, 'inspect', '--format', '{{.State.Pid}}', id]));
    const gauge = await Gauge.open(join(status, 'page'), { timeoutMs: READY_TIMEOUT_MS, alive: () => existsSync(`/proc/${pid}`) });
    Gauge.prefer(pid);
    return new PodmanHome(gauge, id, dirname(setup.criu.path), storage, dir);
  }

  async podman(args: readonly string[]): Promise<string> {
    return await run('podman', [...this.storage, ...args], { pathFirst: this.criuDir });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.podman(['rm', '--force', '--time', '0', this.id]);
    this.gauge[Symbol.dispose]();
    await this.#removeStorage();
  }

  /** Podman leaves a mount over its storage, and makes it anew from a clean-up that runs on behind us. */
  async #removeStorage(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      await run('umount', [join(this.dir, 'root/overlay')]).catch(() => undefined);
      try {
        await rm(this.dir, { recursive: true, force: true });
        return;
      } catch (error) {
        if (attempt === 20) throw error;
        await sleep(250);
      }
    }
  }
}
