import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Gauge, gaugeArguments } from '../gauge.js';
import { run } from '../run.js';
import { READY_TIMEOUT_MS, type CaseSetup, type Home } from './home.js';
import { makeRootfs } from './rootfs.js';

interface Spec {
  process: { terminal: boolean; args: string[]; rlimits?: unknown };
  root: { path: string; readonly: boolean };
  mounts: { destination: string; type: string; source: string; options: string[] }[];
  linux: { namespaces: { type: string }[] };
}

/**
 * The gauge in a runc container with its default mounts, and the host's network unless the scenario is about another.
 */
export class RuncHome implements Home {
  private constructor(
    readonly gauge: Gauge,
    readonly id: string,
    readonly filesDir: string,
    /** Where the CRIU is that runc has to find. */
    readonly criuDir: string,
    readonly criuPath: string,
    private readonly bundle: string,
  ) {}

  static async start(setup: CaseSetup): Promise<RuncHome> {
    const bundle = join(setup.scratchDir, 'runc-bundle');
    const rootfs = join(bundle, 'rootfs');
    const status = join(setup.statusDir, 'runc');
    const id = `stillframe-bench-runc-${process.pid}`;
    await mkdir(status, { recursive: true });
    await makeRootfs(rootfs);
    await run('runc', ['spec', '--bundle', bundle]);
    const specPath = join(bundle, 'config.json');
    const args = ['/bin/gauge', ...gaugeArguments(setup.scenario, { statusPath: '/status/page', filesDir: '/data' })];
    writeFileSync(
      specPath,
      JSON.stringify(
        adaptSpec(JSON.parse(readFileSync(specPath, 'utf8')) as Spec, {
          args,
          statusDir: status,
          ownNetwork: setup.scenario.container === 'own network',
        }),
      ),
    );
    await startDetached('runc', ['run', '--detach', '--bundle', bundle, id]);
    const pid = (JSON.parse(await run('runc', ['state', id])) as { pid: number }).pid;
    const gauge = await Gauge.open(join(status, 'page'), {
      timeoutMs: READY_TIMEOUT_MS,
      alive: () => existsSync(`/proc/${pid}`),
    });
    Gauge.prefer(pid);
    return new RuncHome(gauge, id, join(rootfs, 'data'), dirname(setup.criu.path), setup.criu.path, bundle);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run('runc', ['resume', this.id]).catch(() => undefined); // it runs, unless a checkpoint failed
    await run('runc', ['delete', '--force', this.id]);
    this.gauge[Symbol.dispose]();
    await rm(this.bundle, { recursive: true, force: true });
  }
}

function adaptSpec(
  spec: Spec,
  { args, statusDir, ownNetwork }: { args: string[]; statusDir: string; ownNetwork: boolean },
): Spec {
  const process = { ...spec.process };
  delete process.rlimits; // a machine without CAP_SYS_RESOURCE may not raise them
  return {
    ...spec,
    process: { ...process, terminal: false, args },
    root: { path: 'rootfs', readonly: false },
    mounts: [...spec.mounts, { destination: '/status', type: 'bind', source: statusDir, options: ['bind', 'rw'] }],
    linux: { ...spec.linux, namespaces: spec.linux.namespaces.filter(({ type }) => ownNetwork || type !== 'network') },
  };
}

/** A container keeps the descriptors it was started with: a pipe of ours would never close. */
export async function startDetached(command: string, args: readonly string[]): Promise<void> {
  const child = spawn(command, args, { stdio: 'ignore' });
  const [status] = (await once(child, 'exit')) as [number | null];
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${String(status)}`);
}
