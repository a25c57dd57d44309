/**
 * Copies whose making is killed: the embedding process by SIGKILL, its CRIU or the copy's pid 1, alone or with the
 * guardian, at any moment. Afterwards the copy runs whole or nothing of it is left, and the original has noticed
 * nothing.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { pidsFrom } from '../../../src/cgroup/place.js';
import { checkpoint, prepare, recover, type Phase } from '../../../src/index.js';
import { makeTestCgroup, type TestCgroup, type Version } from '../../fixtures/cgroup.js';
import { endsWithTest } from '../../fixtures/ends-with-test.js';
import { until } from '../../fixtures/processes.js';

export type CloneVictim =
  'owner' | 'criu' | 'init' | 'owner and init' | 'owner and guardian' | 'owner, guardian and init';

/** In turn; the last two are the moments before and after the copy becomes one that stays. */
export const CLONE_PHASES: readonly Phase[] = [
  'verify',
  'guardian',
  'extract',
  'place-files',
  'check-files',
  'restore',
  'thaw',
];
export const CLONE_VICTIMS: readonly CloneVictim[] = [
  'owner',
  'criu',
  'init',
  'owner and init',
  'owner and guardian',
  'owner, guardian and init',
];

const NAMES = { criu: 'criu', init: 'stillframe-init', guardian: 'stillframe-guar' };

const script = `
import os, sys, time
f = open(sys.argv[1], 'wb+', buffering=0)
n = 0
while True:
    n += 1
    os.pwrite(f.fileno(), b'%012d' % n, 0)
    time.sleep(0.005)
`;

export class CloneSweep implements AsyncDisposable {
  /** How often there was nothing to kill (any more), and how often the copy ran in the end. */
  missed = 0;
  ran = 0;
  readonly #nursery: TestCgroup;
  readonly #dir: string;
  #original: ChildProcess | undefined;
  #durationsMs: Partial<Record<Phase, number>> = {};

  private constructor(version: Version) {
    this.#nursery = makeTestCgroup(version);
    this.#dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  }

  static async start(version: Version): Promise<CloneSweep> {
    const sweep = endsWithTest(new CloneSweep(version));
    await sweep.#begin();
    return sweep;
  }

  /** @param fraction How far into the phase, from 0 to 1; 0 is its very start, for the owner. */
  async kill({ victim, phase, fraction }: { victim: CloneVictim; phase: Phase; fraction: number }): Promise<void> {
    const what = `${victim} killed in ${phase} at ${fraction.toFixed(2)}`;
    const isExact = victim === 'owner' && fraction === 0;
    const options = {
      archive: this.#path('warm'),
      clone: true,
      cgroup: this.#nursery.path,
      stateDir: this.#path('state'),
    };
    const plan = { call: 'restore', options, ...(isExact ? { kill: { phase, at: 'start' } } : {}) };
    const program = fileURLToPath(new URL('victim.mjs', import.meta.url));
    const owner = spawn(process.execPath, [program, JSON.stringify(plan)], { stdio: ['pipe', 'pipe', 'inherit'] });
    const said = { text: '' };
    owner.stdout.setEncoding('utf8').on('data', (text: string) => (said.text += text));
    const isOver = (): boolean => owner.exitCode !== null || owner.signalCode !== null;
    try {
      this.#nursery.add(owner.pid!);
      const isReady = await until(() => said.text.includes('ready') || isOver(), 180_000);
      expect([isReady, owner.exitCode, this.#left()], `${what}: the owner starts`).toEqual([
        true,
        null,
        expect.anything(),
      ]);
      owner.stdin.write('go\n');
      const begun = new RegExp(`^(${phase} start|done|failed .*)$`, 'm');
      await until(() => begun.test(said.text) || isOver(), 60_000);
      await sleep(fraction * (this.#durationsMs[phase] ?? 0));
      const killed = [...this.#kill(victim)];
      if (victim.startsWith('owner')) owner.kill('SIGKILL');
      else if (killed.length === 0) this.missed++;
      expect(await until(isOver, 60_000), `${what}: the owner must end`).toBe(true);
    } finally {
      owner.kill('SIGKILL');
    }
    await this.#isRight(victim, `${what} (${said.text.trim().split('\n').slice(-2).join(', ')})`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!existsSync(this.#dir)) return;
    for (const pid of existsSync(this.#nursery.path) ? pidsFrom(this.#nursery.path) : []) tryKill(pid);
    this.#original?.kill('SIGKILL');
    await until(() => this.#left().length === 0, 10_000);
    for (const name of this.#copies()) await until(() => !existsSync(join(this.#nursery.path, name)), 5000);
    await this.#nursery[Symbol.asyncDispose]();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  async #begin(): Promise<void> {
    for (const name of ['data', 'state']) mkdirSync(this.#path(name), { mode: 0o700 });
    const file = this.#path('data/count');
    this.#original = spawn('python3', ['-c', script, file], { detached: true, stdio: 'ignore' });
    expect(await until(() => count(file) > 3, 120_000)).toBe(true);
    const [archive, dir, stateDir] = [this.#path('app.tar'), this.#path('warm'), this.#path('state')];
    const files = [{ path: this.#path('data'), name: 'data' }];
    await checkpoint({ pid: this.#original.pid!, adopt: true, files, output: archive, stateDir });
    await prepare({ archive, dir, stateDir });
    // How long each phase takes, in a process of its own, as the others have.
    const started = performance.now();
    await this.kill({ victim: 'criu', phase: 'verify', fraction: 0 });
    const wholeMs = performance.now() - started;
    for (const phase of CLONE_PHASES) this.#durationsMs[phase] = wholeMs / 12;
    this.#durationsMs.restore = wholeMs / 4;
  }

  #path(name: string): string {
    return join(this.#dir, name);
  }

  *#kill(victim: CloneVictim): Generator<number> {
    const names = (Object.keys(NAMES) as (keyof typeof NAMES)[]).filter((name) => victim.includes(name));
    for (const name of names) {
      for (const pid of pidsFrom(this.#nursery.path)) if (nameOf(pid) === NAMES[name] && tryKill(pid)) yield pid;
    }
  }

  async #isRight(victim: CloneVictim, what: string): Promise<void> {
    const stateDir = this.#path('state');
    const isGuarded = !victim.includes('guardian');
    if (!isGuarded) await sleep(100);
    if (!isGuarded) await recover({ stateDir });
    // What stays does so by itself: a tree that runs, with its pid 1.
    const settled = await until(() => this.#left().length === 0 || this.#runs(), 10_000);
    expect(settled ? [] : this.#left(), what).toEqual([]);
    const [tree] = this.#trees();
    if (tree !== undefined && this.#left().length > 0) {
      const path = `/proc/${tree}/root${this.#path('data/count')}`;
      const before = count(path);
      const goesOn = await until(() => count(path) > before || !existsSync(`/proc/${tree}`), 10_000);
      expect(goesOn, `${what}: a copy that is there runs`).toBe(true);
      if (existsSync(`/proc/${tree}`)) this.ran++;
      for (const pid of pidsFrom(this.#nursery.path)) if (nameOf(pid) === NAMES.init) tryKill(pid);
      await until(() => this.#trees().length === 0, 10_000);
      if (!isGuarded) await recover({ stateDir });
      const gone = await until(() => this.#left().length === 0, 10_000);
      expect(gone ? [] : this.#left(), `${what}: with its end all goes`).toEqual([]);
    }
    const before = count(this.#path('data/count'));
    expect(await until(() => count(this.#path('data/count')) > before, 10_000), `${what}: the original`).toBe(true);
  }

  #trees(): number[] {
    return pidsFrom(this.#nursery.path).filter((pid) => nameOf(pid) === 'python3');
  }

  /** A tree, its pid 1 and nothing of the making. */
  #runs(): boolean {
    const names = pidsFrom(this.#nursery.path).map(nameOf);
    return names.includes('python3') && !names.includes('criu') && !names.includes('node');
  }

  #copies(): string[] {
    if (!existsSync(this.#nursery.path)) return [];
    return readdirSync(this.#nursery.path).filter((name) => name.startsWith('stillframe-copy-'));
  }

  /** What there is of a copy, in words. */
  #left(): string[] {
    const known = ['data', 'app.tar', 'state', 'warm'];
    return [
      ...this.#copies().map((name) => `cgroup ${name}`),
      ...pidsFrom(this.#nursery.path).map((pid) => `process ${pid} (${nameOf(pid)})`),
      ...readdirSync(this.#dir).filter((name) => !known.includes(name)),
      // One without a guardian is of a program that had made nothing yet.
      ...readdirSync(this.#path('state')).filter(
        (name) => name.includes('@') && readText(join(this.#path('state'), name)).includes('"guardian"'),
      ),
      ...readText('/proc/self/mountinfo')
        .split('\n')
        .filter((line) => line.includes(this.#dir)),
    ];
  }
}

function count(path: string): number {
  return Number(readText(path).slice(0, 12)) || 0;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return ''; // it is gone
  }
}

function nameOf(pid: number): string {
  return readText(`/proc/${pid}/comm`).trim();
}

function tryKill(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL');
  } catch {
    return false; // it ended by itself
  }
}
