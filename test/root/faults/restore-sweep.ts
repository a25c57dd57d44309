/**
 * Restores that are killed: the embedding process by SIGKILL, alone or with CRIU, the guardian or both, at any moment.
 * Afterwards the tree is restored whole, or there is nothing of it.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { openFreezer } from '../../../src/cgroup/index.js';
import type { Phase } from '../../../src/checkpoint/events/phases.js';
import { readJournals } from '../../../src/checkpoint/guardian/journal.js';
import { STATE_DIR } from '../../../src/state-dir.js';
import { checkpoint, recover, restore, type RestoreOptions } from '../../../src/index.js';
import { readProcess } from '../../../src/proc/task.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { makeTestCgroup, type TestCgroup, type Version } from '../../fixtures/cgroup.js';
import { endChild, until } from '../../fixtures/processes.js';

export const RESTORE_PHASES: readonly Phase[] = [
  'guardian',
  'verify',
  'wait-pids',
  'extract',
  'check-files',
  'restore',
  'thaw',
];

/** Those of a restore that replaces what is there. */
export const REPLACE_PHASES: readonly Phase[] = ['extract', 'replace', 'check-files', 'restore', 'thaw', 'settle'];

export type Victim = 'owner' | 'owner and criu' | 'owner and guardian' | 'all three';

export interface RestoreKill {
  victim: Victim;
  phase: Phase;
  /** How far into the phase, from 0 to 1. 0 is exact: the program kills itself. */
  fraction: number;
  /** The destination and the cgroup are there before, empty. Default false: the restore makes them. */
  found?: boolean;
  /** Files are there before, which the restore replaces. Default: none are. */
  replaces?: 'keep' | 'remove';
}

const ARCHIVED = 'a tree that is one file';
const CRASHED = 'what was there before';

export class RestoreSweep implements AsyncDisposable {
  /** Kills after which the tree was there, whole: it had been restored by then. */
  finished = 0;
  /** Private directories of the one that was killed, and of whoever else began meanwhile, and will end. */
  #inMemory: string[] = [];
  readonly #durationsMs: Partial<Record<Phase, number>> = {};

  private constructor(
    readonly writer: BusyWriter,
    readonly pids: readonly number[],
    /** Everything that the embedding process starts is born in it, so that nothing can be overlooked. */
    readonly nursery: TestCgroup,
  ) {}

  static async start(version: Version): Promise<RestoreSweep> {
    const writer = await BusyWriter.start(version, { memoryMiB: 4 });
    const sweep = new RestoreSweep(writer, writer.pids, makeTestCgroup(version));
    writeFileSync(sweep.file, ARCHIVED);
    const files = [
      { path: writer.data, name: 'data' },
      { path: sweep.file, name: 'single' },
    ];
    await checkpoint({ pid: writer.pid, files, output: sweep.archive });
    await sweep.#clear();
    sweep.#crash();
    const { phasesMs } = await restore({ ...sweep.#options(false), replaceFiles: 'remove' });
    Object.assign(sweep.#durationsMs, phasesMs);
    await sweep.#clear();
    return sweep;
  }

  get archive(): string {
    return this.writer.path('app.tar');
  }

  get file(): string {
    return this.writer.path('single');
  }

  /** @returns how long it took until everything was right, in milliseconds */
  async kill(kill: RestoreKill): Promise<number> {
    const { victim, phase, fraction, found = false, replaces } = kill;
    const what = `${victim} killed in ${phase} at ${fraction.toFixed(2)}${found ? ', destination found' : ''}${replaces === undefined ? '' : `, replaces (${replaces})`}`;
    if (found) mkdirSync(this.#cgroup);
    if (found && replaces === undefined) mkdirSync(this.writer.data);
    if (replaces !== undefined) this.#crash();
    const others = inMemory();
    const program = await this.#launch(kill);
    const said = await this.#strike(program, kill);
    this.#inMemory = inMemory().filter((name) => !others.includes(name));
    expect(said.text, what).not.toContain('failed BAD_OPTION'); // there would have been nothing to kill
    const start = performance.now();
    if (victim === 'owner and guardian' || victim === 'all three') await recover({ criuTimeoutMs: 1000 });
    const unmended = (): string[] => (replaces === undefined ? this.#unmended(found) : this.#notAsAtTheCrash(found));
    const right = await until(() => this.#isWhole(replaces) || unmended().length === 0, 15_000);
    const mendedMs = performance.now() - start;
    if (!right) expect([...unmended(), `pids ${this.pids.join()}`], `${what} (${said.text.trim()})`).toEqual([]);
    if (this.#isWhole(replaces)) {
      this.finished++;
      expect(await this.writer.isWell(), what).toEqual({ goesOn: true, mismatches: 0, lost: '' });
      await until(() => this.#unmendedHere().length === 0, 5000);
      expect(this.#unmendedHere(), what).toEqual([]);
    }
    await this.#clear();
    await expect(restore(this.#options(false)), `the restore after: ${what}`).resolves.toBeDefined();
    expect(await this.writer.isWell(), what).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    await this.#clear();
    return mendedMs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#clear();
    await this.writer[Symbol.asyncDispose]();
    await this.nursery[Symbol.asyncDispose]();
  }

  get #cgroup(): string {
    return join(this.writer.cgroup.path, 'made');
  }

  #options(inMade: boolean): RestoreOptions {
    return { archive: this.archive, ...(inMade ? { cgroup: join(this.#cgroup, 'deep') } : {}) };
  }

  /** The restore has come to its end: nothing will take the tree away again. */
  #isWhole(replaces?: 'keep' | 'remove'): boolean {
    if (!this.pids.every((pid) => isAlive(pid)) || !existsSync(this.file) || this.#hasJournal()) return false;
    return readFileSync(this.file, 'utf8') === ARCHIVED && this.#kept().length === (replaces === 'keep' ? 2 : 0);
  }

  /** What is there before a restore that replaces it. */
  #crash(): void {
    mkdirSync(this.writer.data);
    writeFileSync(join(this.writer.data, 'table'), CRASHED);
    writeFileSync(this.file, CRASHED);
  }

  #kept(): string[] {
    return this.writer.leftovers().filter((name) => /^(data|single)\.replaced-/.test(name));
  }

  #notAsAtTheCrash(found: boolean): string[] {
    const held = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : 'not there');
    const wrong = [this.file, join(this.writer.data, 'table')].filter((path) => held(path) !== CRASHED);
    return [
      ...this.#unmendedHere(),
      ...this.pids.filter(isAlive).map((pid) => `process ${pid} of the tree is there`),
      ...wrong.map((path) => `${path} is ${held(path)}`),
      ...(readdirSync(this.writer.data).length === 1 ? [] : ['the old directory holds more']),
      ...this.#kept().map((name) => `${name} is there`),
      ...(existsSync(this.#cgroup) !== found ? [`the cgroup is ${found ? 'gone' : 'there'}`] : []),
    ];
  }

  /** What is not right yet, in words, where there was no restore. */
  #unmended(found: boolean): string[] {
    const made = existsSync(this.#cgroup);
    const { data } = this.writer;
    return [
      ...this.#unmendedHere(),
      ...this.pids.filter(isAlive).map((pid) => `process ${pid} of the tree is there`),
      ...(existsSync(this.file) ? ['the single file is there'] : []),
      ...(existsSync(data) !== found ? [`the destination is ${found ? 'gone' : 'there'}`] : []),
      ...(holdsAnything(data) ? ['the destination is not empty'] : []),
      ...(made !== found ? [`the cgroup is ${found ? 'gone' : 'there'}`] : []),
    ];
  }

  /** What must be so in any case. */
  #unmendedHere(): string[] {
    const { frozen, selfFrozen } = openFreezer({ cgroup: this.writer.cgroup.path }).state();
    return [
      ...(frozen || selfFrozen ? ['the cgroup is frozen'] : []),
      ...this.nursery.pids().filter(isAlive).map(describe),
      ...(this.#hasJournal() ? ['its journal is left'] : []),
      ...this.writer
        .leftovers()
        .filter((name) => name !== 'app.tar' && name !== 'single' && !this.#kept().includes(name))
        .map((name) => `${name} is left`),
      ...inMemory()
        .filter((name) => this.#inMemory.includes(name))
        .map((name) => `${name} is left in memory`),
    ];
  }

  /** One without a guardian is of a program that had touched nothing yet: the next restore removes it. */
  #hasJournal(): boolean {
    return readJournals(STATE_DIR).some(
      ({ entry }) => (entry.restore?.archivePath ?? entry.restored) === this.archive && entry.guardian !== undefined,
    );
  }

  async #clear(): Promise<void> {
    await this.writer.destroy();
    rmSync(this.file, { force: true });
    for (const name of this.#kept()) rmSync(this.writer.path(name), { recursive: true });
    for (const path of [join(this.#cgroup, 'deep'), this.#cgroup])
      await until(() => !existsSync(path) || tryRmdir(path), 5000);
  }

  async #launch({ victim, phase, fraction, found = false, replaces }: RestoreKill): Promise<ChildProcess> {
    const exact = fraction === 0 && victim === 'owner' ? { kill: { phase, at: 'start' } } : {};
    const options: RestoreOptions = {
      ...this.#options(!found),
      ...(replaces === undefined ? {} : { replaceFiles: replaces }),
    };
    const plan = JSON.stringify({ options, call: 'restore', ...exact });
    const child = spawn(process.execPath, [fileURLToPath(new URL('victim.mjs', import.meta.url)), plan], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.nursery.add(child.pid as number);
    child.stdout?.setEncoding('utf8');
    await heard(child, /^ready$/m);
    return child;
  }

  async #strike(child: ChildProcess, { victim, phase, fraction }: RestoreKill): Promise<{ text: string }> {
    const said = { text: '' };
    child.stdout?.on('data', (text: string) => (said.text += text));
    const inPhase = heard(child, new RegExp(`^(${phase} start|done|failed .*)$`, 'm'));
    child.stdin?.write('go\n');
    await inPhase;
    await sleep(fraction * (this.#durationsMs[phase] ?? 0));
    // The restore's CRIU is in the tree's cgroup by then.
    const ours = (): number[] => [...this.nursery.pids(), ...cgroupPids(this.writer.cgroup.path)];
    const named = (name: string): number[] => ours().filter((pid) => readProcess(pid)?.name === name);
    const guardians = victim === 'all three' || victim === 'owner and guardian' ? named('stillframe-guar') : [];
    guardians.forEach(tryKill);
    if (victim === 'all three' || victim === 'owner and criu') named('criu').forEach(tryKill);
    await endChild(child);
    // On a busy machine one that was killed is alive until it has its turn, and `recover` leaves its work to it.
    await until(() => !guardians.some(isAlive), 10_000);
    return said;
  }
}

function holdsAnything(path: string): boolean {
  try {
    return readdirSync(path).length > 0;
  } catch {
    return false; // there is none (any more)
  }
}

function isAlive(pid: number): boolean {
  const state = readProcess(pid)?.state;
  return state !== undefined && state !== 'Z' && state !== 'X';
}

function describe(pid: number): string {
  const info = readProcess(pid);
  return `process ${pid} (${info?.name ?? 'gone'}, state ${info?.state ?? ''}) is left`;
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // it ended by itself
  }
}

/** Where CRIU's images are unpacked when they fit. */
function inMemory(): string[] {
  return readdirSync('/dev/shm').filter((name) => name.startsWith('.stillframe-'));
}

function tryRmdir(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch {
    return false; // a task that is just ending keeps its cgroup for an instant
  }
}

function cgroupPids(path: string): number[] {
  try {
    const below = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [
      ...readFileSync(join(path, 'cgroup.procs'), 'latin1').split('\n').filter(Boolean).map(Number),
      ...below.flatMap(({ name }) => cgroupPids(join(path, name))),
    ];
  } catch {
    return []; // removed meanwhile
  }
}

function heard(child: ChildProcess, wanted: RegExp): Promise<void> {
  return new Promise((resolve) => {
    let text = '';
    const onData = (more: string): void => {
      text += more;
      if (wanted.test(text)) settle();
    };
    const settle = (): void => {
      child.stdout?.off('data', onData);
      child.off('exit', settle);
      resolve();
    };
    child.stdout?.on('data', onData);
    child.once('exit', settle);
  });
}
