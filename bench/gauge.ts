import { closeSync, existsSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { setPriority } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Scenario } from './scenarios.js';

const PAGE_WORDS = 8;

/** What workloads/gauge.c has seen since it was last reset. Times in milliseconds. */
export interface GaugeReading {
  looks: number;
  longestHoleMs: number;
  /** When that hole began, on the clock of `process.hrtime()`. */
  holeBeganMs: number;
}

/** Arguments of workloads/gauge.c for a scenario, with paths as the workload sees them. */
export function gaugeArguments(
  scenario: Scenario,
  { statusPath, filesDir }: { statusPath: string; filesDir: string },
): string[] {
  const { memoryMiB, files, changing, whole } = scenario;
  const args = [statusPath, '--memory', String(memoryMiB)];
  if (files.count > 0) args.push('--files', filesDir, String(files.count), String(files.bytesEach));
  if (changing > 0) args.push('--changing', String(Math.ceil(files.count * changing)));
  if (whole) args.push('--period-us', '10000');
  return args;
}

/** Reads and resets a gauge through the page it maps: no signal, no system call on its side. */
export class Gauge implements Disposable {
  readonly #fd: number;
  readonly #page = new BigUint64Array(PAGE_WORDS);

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Resolves when the workload has touched its memory and written its files. */
  static async open(
    statusPath: string,
    { timeoutMs, alive }: { timeoutMs: number; alive: () => boolean },
  ): Promise<Gauge> {
    const deadline = performance.now() + timeoutMs;
    let gauge: Gauge | undefined;
    for (;;) {
      if (gauge === undefined && existsSync(statusPath)) gauge = new Gauge(openSync(statusPath, 'r+'));
      if (gauge?.word('ready') !== undefined && gauge.word('ready') !== 0n) return gauge;
      if (!alive()) throw new Error('the gauge ended before it was ready');
      if (performance.now() > deadline) throw new Error(`the gauge was not ready after ${timeoutMs} ms`);
      await sleep(5);
    }
  }

  /**
   * Lets the scheduler run it before all else, so that the holes it sees are those of the freezer and of CRIU, and
   * not other work on the machine. From outside, so that it is the same in every container. Where the kernel groups
   * tasks by session (CONFIG_SCHED_AUTOGROUP) a task's own priority counts only within its session: the session's
   * counts too. See sched(7), "The autogroup feature".
   */
  static prefer(pid: number): void {
    setPriority(pid, -20);
    const autogroup = `/proc/${pid}/autogroup`;
    if (existsSync(autogroup)) writeFileSync(autogroup, '-20');
  }

  async reset(): Promise<void> {
    const wish = this.word('reset') + 1n;
    writeSync(this.#fd, new BigUint64Array([wish]), 0, 8, 0);
    while (this.word('resetSeen') !== wish) await sleep(1);
  }

  read(): GaugeReading {
    return {
      looks: Number(this.word('looks')),
      longestHoleMs: Number(this.word('longest')) / 1e6,
      holeBeganMs: Number(this.word('began')) / 1e6,
    };
  }

  word(name: keyof typeof WORDS): bigint {
    const bytes = readSync(this.#fd, this.#page, 0, this.#page.byteLength, 0);
    return bytes === this.#page.byteLength ? this.#page[WORDS[name]]! : 0n;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

const WORDS = { reset: 0, resetSeen: 1, looks: 2, longest: 3, began: 4, sum: 5, holes: 6, ready: 7 } as const;
