/**
 * Kill sweeps: checkpoints of the self-checking workload, each ended at another moment by SIGKILL to the embedding
 * process, to CRIU, or to both, or to the guardian as well; and what must be true afterwards.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { openFreezer } from '../../../src/cgroup/index.js';
import { readProcess } from '../../../src/proc/task.js';
import { checkpoint } from '../../../src/checkpoint/checkpoint.js';
import { verify } from '../../../src/checkpoint/inspect.js';
import type { CheckpointOptions } from '../../../src/checkpoint/options.js';
import type { Phase } from '../../../src/checkpoint/events/phases.js';
import { readJournals, type FoundJournal } from '../../../src/checkpoint/guardian/journal.js';
import { STATE_DIR } from '../../../src/state-dir.js';
import { recover } from '../../../src/checkpoint/guardian/recover.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { makeTestCgroup, type TestCgroup, type Version } from '../../fixtures/cgroup.js';
import { endChild, until } from '../../fixtures/processes.js';
import { endsWithTest } from '../../fixtures/ends-with-test.js';

/** The phases of a checkpoint in which a kill is tried, in turn. */
export const PHASES: readonly Phase[] = [
  'resolve',
  'lock',
  'guardian',
  'adopt',
  'precopy',
  'start-criu',
  'dump',
  'freeze',
  'refresh',
  'thaw',
  'seal',
];

/** Those in which there is a CRIU to kill. */
const CRIU_PHASES: readonly Phase[] = ['start-criu', 'dump', 'freeze', 'refresh'];

const WORKLOAD = { memoryMiB: 4 };

export type Victim = 'owner' | 'criu' | 'owner and criu' | 'owner and guardian' | 'all three';

export interface Kill {
  victim: Victim;
  phase: Phase;
  /** How far into the phase, from 0 to 1. 0 is exact: the program kills itself. */
  fraction: number;
}

/** A SIGSTOP to CRIU, so far into a phase; the limits within which the checkpoint has to give up by itself. */
export interface Stop extends Omit<Kill, 'victim'> {
  maxFrozenMs: number;
  criuStartTimeoutMs: number;
}

export interface Stopped {
  /** `done`, or the error's code. */
  outcome: string;
  /** Undefined when it came to no window. */
  windowMs: number | undefined;
}

/** How soon everything must be right again, in milliseconds. */
export const MENDED_WITHIN_MS = 2000;

/** `count` kills, spread evenly over all phases in which there is something to kill, and over each phase. */
export function evenly(victim: Victim, count: number): Kill[] {
  const phases = victim === 'criu' ? CRIU_PHASES : PHASES;
  return Array.from({ length: count }, (_, i) => {
    const rounds = Math.max(1, Math.ceil(count / phases.length));
    const round = Math.floor(i / phases.length);
    // With one round the middle; else from the phase's start, by a fixed share and a random rest.
    return {
      victim,
      phase: phases[i % phases.length] as Phase,
      fraction: (round + (round === 0 ? 0 : Math.random())) / rounds,
    };
  });
}

/** One workload, and everything that is asked about it, for as many kills as one likes. */
export class Sweep implements AsyncDisposable {
  readonly #durationsMs: Partial<Record<Phase, number>> = {};
  #isOver = false;
  /** Trees that did not survive the SIGKILL of their CRIU: see `kill`. */
  harmed = 0;
  /** Kills of CRIU that came when there was none (any more). */
  missed = 0;
  #writer: BusyWriter;
  #pids: number[];
  #count = 0;

  private constructor(
    writer: BusyWriter,
    readonly version: Version,
    /** Everything that the embedding process starts is born in it, so that nothing can be overlooked. */
    readonly nursery: TestCgroup,
    readonly adopt: boolean,
  ) {
    this.#writer = writer;
    this.#pids = writer.pids;
  }

  get writer(): BusyWriter {
    return this.#writer;
  }

  /** @param adopt The tree is moved into a cgroup of its own for each checkpoint, and back. */
  static async start(version: Version, { adopt = false } = {}): Promise<Sweep> {
    const writer = await BusyWriter.start(version, WORKLOAD);
    const nursery = makeTestCgroup(version);
    const sweep = endsWithTest(new Sweep(writer, version, nursery, adopt));
    const { phasesMs } = await checkpoint(sweep.#options(writer.path('first.tar')));
    rmSync(writer.path('first.tar'));
    Object.assign(sweep.#durationsMs, phasesMs);
    return sweep;
  }

  /**
   * A CRIU that is SIGKILLed while its code runs inside a task takes the task's registers with it: the task may then
   * end by SIGTRAP or SIGSEGV, which nobody can mend. Such a tree is counted as harmed, and replaced. Everything else
   * must be right all the same, and a tree that lives must be whole.
   * @returns how long it took until everything was right again, in milliseconds
   */
  async kill(kill: Kill): Promise<number> {
    const what = `${kill.victim} killed in ${kill.phase} at ${kill.fraction.toFixed(2)}`;
    const output = this.writer.path(`${++this.#count}.tar`);
    const program = await this.#launch(output, kill);
    const { said, hit } = await this.#strike(program, kill);
    let start = performance.now();
    if (kill.victim.includes('guardian') || kill.victim === 'all three') await recover({ criuTimeoutMs: 1000 });
    if (kill.victim === 'criu')
      expect(await until(() => program.exitCode !== null, 10_000), `${what}: the program must notice`).toBe(true);
    if (!hit) {
      this.missed++;
      start = performance.now(); // the checkpoint was free to take its time
    }

    const right = await until(() => this.#unmended().length === 0, MENDED_WITHIN_MS);
    const mendedMs = performance.now() - start;
    if (!right) expect(this.#unmended(), `${what} (${said.text.trim().split('\n').slice(-2).join(', ')})`).toEqual([]);
    await this.#checkOutput(output, what);
    if (kill.victim !== 'owner' && kill.victim !== 'owner and guardian' && !(await this.#survived()))
      await this.#replace();
    expect(await this.writer.isWell(), what).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    await this.#nextSucceeds(what);
    return mendedMs;
  }

  /**
   * Stops CRIU. The checkpoint must end within its own limits, harm nothing and leave nothing; one that had all it
   * needed succeeds.
   */
  async stop(stop: Stop): Promise<Stopped> {
    const what = `criu stopped in ${stop.phase} at ${stop.fraction.toFixed(2)}`;
    const output = this.writer.path(`${++this.#count}.tar`);
    const { phase, fraction, maxFrozenMs, criuStartTimeoutMs } = stop;
    const kill: Kill = { victim: 'criu', phase, fraction };
    const program = await this.#launch(output, kill, { maxFrozenMs, criuStartTimeoutMs, retries: 0 });
    const { hit, said } = await this.#strike(program, kill, 'SIGSTOP');
    if (!hit) this.missed++;
    // Whoever is never given up ends never: far beyond what a busy machine can add to the limits.
    expect(await until(() => program.exitCode !== null, 60_000), `${what}: the checkpoint must give up`).toBe(true);
    const outcome = /^(?:failed (\w*)|done)/m.exec(said.text);
    const windowMs = /^window (.*)$/m.exec(said.text)?.[1];
    const right = await until(() => this.#unmended().length === 0, MENDED_WITHIN_MS);
    if (!right) expect(this.#unmended(), `${what} (${said.text})`).toEqual([]);
    expect(existsSync(output), what).toBe(outcome?.[0] === 'done');
    await this.#checkOutput(output, what);
    expect(await this.#survived(), `${what}: a CRIU that goes on lets all tasks go`).toBe(true);
    expect(await this.writer.isWell(), what).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    await this.#nextSucceeds(what);
    return {
      outcome: outcome?.[1] ?? outcome?.[0] ?? said.text,
      windowMs: windowMs === undefined ? undefined : Number(windowMs),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await this.writer[Symbol.asyncDispose]();
    await this.nursery[Symbol.asyncDispose]();
  }

  async #survived(): Promise<boolean> {
    await sleep(50); // a child's end takes its parent along
    return this.#pids.every((pid) => describe(pid) !== undefined);
  }

  async #replace(): Promise<void> {
    if (this.#isOver) throw new Error('the test has timed out');
    this.harmed++;
    for (const pid of this.#pids.filter((pid) => describe(pid) !== undefined)) process.kill(pid, 'SIGKILL');
    await this.#writer[Symbol.asyncDispose]();
    this.#writer = await BusyWriter.start(this.version, WORKLOAD);
    this.#pids = this.#writer.pids;
  }

  #options(output: string): CheckpointOptions {
    const { version, path } = this.writer.cgroup;
    const where = this.adopt
      ? { adopt: true, cgroupVersion: version === 'v1' ? (1 as const) : (2 as const) }
      : { cgroup: path };
    return { pid: this.writer.pid, ...where, files: [{ path: this.writer.data, name: 'data' }], output };
  }

  async #launch(output: string, kill: Kill, limits: Partial<CheckpointOptions> = {}): Promise<ChildProcess> {
    const exact = kill.fraction === 0 && kill.victim === 'owner' ? { kill: { phase: kill.phase, at: 'start' } } : {};
    const plan = JSON.stringify({ options: { ...this.#options(output), ...limits }, ...exact });
    const child = spawn(process.execPath, [fileURLToPath(new URL('victim.mjs', import.meta.url)), plan], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.nursery.add(child.pid as number);
    child.stdout?.setEncoding('utf8');
    await heard(child, /^ready$/m);
    return child;
  }

  /** @returns what the program says, then and later, and whether there was something to kill */
  async #strike(
    child: ChildProcess,
    { victim, phase, fraction }: Kill,
    signal: NodeJS.Signals = 'SIGKILL',
  ): Promise<{ said: { text: string }; hit: boolean }> {
    const said = { text: '' };
    child.stdout?.on('data', (text: string) => (said.text += text));
    const inPhase = heard(child, new RegExp(`^(${phase} start|done|failed .*)$`, 'm'));
    child.stdin?.write('go\n');
    await inPhase;
    const waitUntil = performance.now() + fraction * (this.#durationsMs[phase] ?? 0);
    while (performance.now() < waitUntil) {
      // Timers are a millisecond coarse, and some phases are shorter than that.
    }
    if (victim === 'all three' || victim === 'owner and guardian') this.#killNamed('stillframe-guar', signal);
    const killed =
      victim === 'all three' || victim === 'owner and criu' || victim === 'criu' ? this.#killNamed('criu', signal) : 0;
    if (victim !== 'criu') await endChild(child);
    return { said, hit: victim !== 'criu' || killed > 0 };
  }

  /** @returns how many there were */
  #killNamed(name: string, signal: NodeJS.Signals): number {
    return this.nursery.pids().filter((pid) => nameOf(pid) === name && tryKill(pid, signal)).length;
  }

  /** What is not right yet, in words. */
  #unmended(): string[] {
    const { frozen, selfFrozen } = openFreezer({ cgroup: this.writer.cgroup.path }).state();
    return [
      ...(frozen || selfFrozen ? ['the cgroup is frozen'] : []),
      ...cgroupsIn(this.writer.cgroup.path).map((name) => `cgroup ${name} is left`),
      ...this.#pids
        .filter((pid) => describe(pid) !== undefined && !this.writer.cgroup.pids().includes(pid))
        .map((pid) => `process ${pid} is not at home`),
      ...this.nursery
        .pids()
        .map((pid) => describe(pid))
        .filter((text) => text !== undefined),
      // One without a guardian is of a program that had touched nothing yet: the next that takes any lock removes it.
      ...this.#journals()
        .filter(({ entry }) => entry.guardian !== undefined)
        .map(({ path }) => `journal ${path} is left`),
      ...this.writer
        .leftovers()
        .filter((name) => !/^\d+\.tar$/.test(name))
        .map((name) => `${name} is left`),
    ];
  }

  #journals(): FoundJournal[] {
    return readJournals(STATE_DIR).filter(({ entry }) => entry.target?.pid === this.writer.pid);
  }

  /** The archive does not exist, or it is whole. */
  async #checkOutput(output: string, what: string): Promise<void> {
    if (!existsSync(output)) return;
    await expect(verify(output), `${what}: ${basename(output)}`).resolves.toBeDefined();
    rmSync(output);
  }

  async #nextSucceeds(what: string): Promise<void> {
    const output = this.writer.path('next.tar');
    await expect(checkpoint(this.#options(output)), `the checkpoint after: ${what}`).resolves.toMatchObject({
      foundFrozen: false,
    });
    rmSync(output);
    expect(readdirSync(this.writer.scratch), what).toEqual(['data']);
    expect(this.#journals(), what).toEqual([]);
  }
}

function cgroupsIn(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
}

/** `undefined` for a zombie: its parent, or init, which is slow on some machines, will reap it. */
function describe(pid: number): string | undefined {
  const info = readProcess(pid);
  return info === undefined || info.state === 'Z'
    ? undefined
    : `process ${pid} (${info.name}, state ${info.state}, child of ${info.ppid}) is left`;
}

/** Children of this process, by their name as the kernel keeps it: its first 15 bytes. */
export function childrenNamed(name: string): number[] {
  const children = readdirSync('/proc/self/task').flatMap((tid) =>
    readFileSync(`/proc/self/task/${tid}/children`, 'latin1').split(' ').filter(Boolean).map(Number),
  );
  return children.filter((pid) => nameOf(pid) === name);
}

function tryKill(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false; // it ended by itself
  }
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'latin1').trim();
  } catch {
    return ''; // it has ended
  }
}

function heard(child: ChildProcess, wanted: RegExp): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = '';
    const onData = (more: string): void => {
      text += more;
      if (wanted.test(text)) settle(resolve);
    };
    const onEnd = (): void =>
      settle(() =>
        child.signalCode === 'SIGKILL'
          ? resolve()
          : reject(new Error(`ended before it said ${String(wanted)}: ${text}`)),
      );
    const settle = (how: () => void): void => {
      child.stdout?.off('data', onData);
      child.off('exit', onEnd);
      how();
    };
    child.stdout?.on('data', onData);
    child.once('exit', onEnd);
  });
}
