import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Gauge, gaugeArguments } from '../gauge.js';
import { READY_TIMEOUT_MS, type CaseSetup, type Home } from './home.js';
import { PodmanStorage } from './podman-storage.js';

/** The gauge in a Podman container without a network, its storage in the case's own directory. */
export class PodmanHome implements Home {
  private constructor(
    readonly gauge: Gauge,
    readonly id: string,
    private readonly storage: PodmanStorage,
  ) {}

  static async start(setup: CaseSetup): Promise<PodmanHome> {
    const status = join(setup.statusDir, 'podman');
    const id = `stillframe-bench-podman-${process.pid}`;
    await mkdir(status, { recursive: true });
    const storage = await PodmanStorage.make(join(setup.scratchDir, 'podman'), {
      criuDir: dirname(setup.criu.path),
      programs: ['gauge'],
    });
    const gaugeArgs = [
      '/bin/gauge',
      ...gaugeArguments(setup.scenario, { statusPath: '/status/page', filesDir: '/data' }),
    ];
    await storage.start(id, ['--volume', `${status}:/status`], gaugeArgs);
    const pid = await storage.pidOf(id);
    const gauge = await Gauge.open(join(status, 'page'), {
      timeoutMs: READY_TIMEOUT_MS,
      alive: () => existsSync(`/proc/${pid}`),
    });
    Gauge.prefer(pid);
    return new PodmanHome(gauge, id, storage);
  }

  podman(args: readonly string[]): Promise<string> {
    return this.storage.podman(...args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.storage.remove(this.id);
    this.gauge[Symbol.dispose]();
    await this.storage[Symbol.asyncDispose]();
  }
}
