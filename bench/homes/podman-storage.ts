import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../run.js';
import { makeRootfs } from './rootfs.js';
import { startDetached } from './runc-home.js';

const IMAGE = 'stillframe-bench';
/** What a container needs where there is no CAP_SYS_RESOURCE, and no network to set up. */
const LIMITS = ['--network', 'none', '--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1000:1000'];

/** A storage of Podman's in a directory of the bench, with one small image in it. */
export class PodmanStorage implements AsyncDisposable {
  private constructor(
    /** Options that come before Podman's subcommand. */
    readonly options: readonly string[],
    private readonly dir: string,
    private readonly criuDir: string,
  ) {}

  /** @param programs of workloads/, for the image's /bin */
  static async make(
    dir: string,
    { criuDir, programs }: { criuDir: string; programs: readonly string[] },
  ): Promise<PodmanStorage> {
    await mkdir(dir, { recursive: true });
    await makeRootfs(join(dir, 'rootfs'), programs);
    await run('tar', ['--create', '--file', join(dir, 'rootfs.tar'), '--directory', join(dir, 'rootfs'), '.']);
    const places = ['--root', join(dir, 'root'), '--runroot', join(dir, 'run'), '--tmpdir', join(dir, 'tmp')];
    const storage = new PodmanStorage(
      [...places, '--cgroup-manager', 'cgroupfs', '--events-backend', 'none', '--runtime', 'runc'],
      dir,
      criuDir,
    );
    await storage.podman('import', join(dir, 'rootfs.tar'), IMAGE);
    return storage;
  }

  podman(...args: string[]): Promise<string> {
    return run('podman', [...this.options, ...args], { pathFirst: this.criuDir });
  }

  /** Starts a container. @param args options of `podman run` @param program and its arguments */
  async start(name: string, args: readonly string[], program: readonly string[]): Promise<void> {
    await startDetached('podman', [
      ...this.options,
      'run',
      '--detach',
      '--name',
      name,
      ...LIMITS,
      ...args,
      IMAGE,
      ...program,
    ]);
  }

  async pidOf(name: string): Promise<number> {
    return Number(await this.podman('inspect', '--format', '{{.State.Pid}}', name));
  }

  async remove(name: string): Promise<void> {
    await this.podman('rm', '--force', '--time', '0', name);
  }

  /** Podman leaves a mount over its storage, and makes it anew from a clean-up that runs on behind us. */
  async [Symbol.asyncDispose](): Promise<void> {
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
