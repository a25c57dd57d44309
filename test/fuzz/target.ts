import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { makeTestCgroup, freezerVersions, type TestCgroup } from '../fixtures/cgroup.js';
import { fakeCriu, packets } from '../fixtures/fake-criu.js';

const checkout = fileURLToPath(new URL('../..', import.meta.url));

/**
 * What nothing may exceed, whatever an archive says. Under the sanitizers memory that was given back is kept for a
 * while.
 */
const PEAK_MIB = process.env['STILLFRAME_FUZZ_PRELOAD'] === undefined ? 200 : 400;
/** All attempts on one archive; an attempt that works rather than waits is limited by the worker. */
const HANGS_AFTER_MS = 120_000;
/** A process's peak is that of all its archives: a fresh one from time to time. */
const ARCHIVES_A_WORKER = 100;

export interface Verdict {
  /** How each attempt ended: `done`, or an error's code. */
  ended: Readonly<Record<string, string>>;
  peakMiB: number;
}

/**
 * Gives archives to the library in a process of its own, and looks at what came of it: no crash, no hang, typed errors
 * only, bounded memory, and not a file changed outside of the destinations.
 */
export class FuzzTarget implements AsyncDisposable {
  readonly base = mkdtempSync(join(tmpdir(), 'stillframe-test-fuzz-'));
  readonly #cgroup: TestCgroup = makeTestCgroup(freezerVersions()[0] ?? 'v2');
  #worker: ChildProcess | undefined;
  #stderr = '';
  #archives = 0;
  #before = '';

  /** The library: this checkout's, or one whose native part is under the sanitizers. */
  readonly #root = process.env['STILLFRAME_FUZZ_ROOT'] ?? checkout;

  static async make(): Promise<FuzzTarget> {
    const target = new FuzzTarget();
    await target.#prepare();
    return target;
  }

  /** A bundle whose image has links that lead out of it, and what they lead to. */
  async #prepare(): Promise<void> {
    const [outside, rootfs] = [join(this.base, 'outside'), join(this.base, 'bundle/rootfs')];
    for (const dir of [join(outside, 'dir'), join(rootfs, 'etc'), join(this.base, 'bin')])
      mkdirSync(dir, { recursive: true });
    for (const file of [join(outside, 'file'), join(outside, 'dir/file'), join(rootfs, 'etc/file')])
      writeFileSync(file, 'as it was');
    symlinkSync(outside, join(rootfs, 'out'));
    symlinkSync('../../outside', join(rootfs, 'up'));
    symlinkSync('../../../outside/dir', join(rootfs, 'etc/out'));
    writeFileSync(
      join(this.base, 'bundle/config.json'),
      JSON.stringify({ ociVersion: '1.0.2', root: { path: 'rootfs' } }),
    );
    writeFileSync(join(this.base, 'bin/runc'), '#!/bin/sh\nexit 1\n');
    chmodSync(join(this.base, 'bin/runc'), 0o755);
    // Answers everything with yes, but RESTORE (2).
    await fakeCriu(
      this.base,
      `while True:\n  m = s.recv(1 << 20)\n  if not m: break\n  s.send(${packets.version} if m[1] == 10 else bytes([8, m[1], 16, 0 if m[1] == 2 else 1]))`,
    );
    this.#before = this.#outside();
  }

  /** @throws Error that says which rule was broken, and how */
  async try(archive: Buffer): Promise<Verdict> {
    const path = join(this.base, 'archive');
    writeFileSync(path, archive);
    if (++this.#archives % ARCHIVES_A_WORKER === 0) await this.#stop();
    const worker = (this.#worker ??= await this.#start());
    const hung = new AbortController();
    const answer = Promise.race([
      once(worker, 'message', { signal: hung.signal }).then(
        ([message]) => message as { ended: Verdict['ended']; peakKiB: number },
      ),
      once(worker, 'exit', { signal: hung.signal }).then(([code, signal]) => {
        throw new Error(`crashed: ${String(signal ?? code)}\n${this.#stderr}`);
      }),
      sleep(HANGS_AFTER_MS, undefined, { signal: hung.signal }).then(() => {
        throw new Error(`hangs: no answer within ${HANGS_AFTER_MS} ms`);
      }),
    ]);
    worker.send({ archive: path, base: this.base });
    let message: Awaited<typeof answer>;
    try {
      message = await answer;
    } catch (error) {
      await this.#stop();
      throw error;
    } finally {
      hung.abort();
    }
    const peakMiB = message.peakKiB / 1024;
    if (peakMiB > PEAK_MIB) await this.#stop();
    this.#judge(message.ended, peakMiB);
    return { ended: message.ended, peakMiB };
  }

  #judge(ended: Verdict['ended'], peakMiB: number): void {
    const outside = this.#outside();
    if (outside !== this.#before) throw new Error(`changed outside:\n${this.#before}\nis now\n${outside}`);
    const wrong = Object.entries(ended).filter(([, end]) => /^untyped|after more than/.test(end));
    if (wrong.length > 0) throw new Error(wrong.map(([name, end]) => `${name} ended ${end}`).join('\n'));
    if (peakMiB > PEAK_MIB) throw new Error(`took ${peakMiB.toFixed(0)} MiB of memory`);
    if (/ERROR: |runtime error: /.test(this.#stderr)) throw new Error(`a sanitizer says:\n${this.#stderr}`);
  }

  /** All there is but the archive and the worker's own directory: names, kinds, owners, sizes and times. */
  #outside(): string {
    const lines: string[] = [];
    const list = (dir: string): void => {
      for (const name of readdirSync(join(this.base, dir)).sort()) {
        const path = join(dir, name);
        if (path === 'archive' || path === 'work') continue;
        const stat = lstatSync(join(this.base, path));
        lines.push([path, stat.mode.toString(8), stat.uid, stat.gid, stat.size, stat.mtimeMs, stat.ctimeMs].join(' '));
        if (stat.isDirectory()) list(path);
      }
    };
    list('');
    return lines.join('\n');
  }

  async #start(): Promise<ChildProcess> {
    const preload = process.env['STILLFRAME_FUZZ_PRELOAD'];
    this.#stderr = '';
    const worker = fork(join(checkout, 'test/fuzz/worker.mjs'), [this.#root], {
      execArgv: [],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: {
        ...process.env,
        PATH: `${join(this.base, 'bin')}:${process.env['PATH'] ?? ''}`,
        FUZZ_CGROUP: this.#cgroup.path,
        TMPDIR: this.base,
        ...(preload === undefined ? {} : { LD_PRELOAD: preload, ASAN_OPTIONS: 'detect_leaks=0:quarantine_size_mb=16' }),
      },
    });
    worker.stderr?.on('data', (chunk: Buffer) => (this.#stderr = (this.#stderr + chunk.toString()).slice(-20_000)));
    await Promise.race([once(worker, 'message'), once(worker, 'exit')]);
    if (worker.exitCode !== null) throw new Error(`the worker does not start: ${this.#stderr}`);
    return worker;
  }

  async #stop(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    if (worker === undefined || worker.exitCode !== null || worker.signalCode !== null) return;
    const exit = once(worker, 'exit');
    worker.kill('SIGKILL');
    await exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
    await this.#cgroup[Symbol.asyncDispose]();
    rmSync(this.base, { recursive: true, force: true });
  }
}
