import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findCriu } from '../src/index.js';
import type { Contender } from './contenders/contender.js';
import { Cleanup } from './cleanup.js';
import type { CaseSetup, Home } from './homes/home.js';
import { lineUps } from './line-up.js';
import type { CaseResult, ContenderResult, Sample } from './results.js';
import { run } from './run.js';
import type { Scenario } from './scenarios.js';

export interface CasePlan {
  scenario: Scenario;
  /** Measured rounds. One more comes first, for all alike, and does not count: a fresh directory is slower. */
  runs: number;
  /** A directory on the file system under test. */
  directory: string;
  /** Only contenders whose name matches this regular expression. */
  contenders?: string;
  /** No round begins after it, on the clock of Date.now(), save the first that counts. */
  notAfter?: number;
}

interface Entrant {
  contender: Contender;
  home: Home;
  result: ContenderResult;
}

const QUIET_MS = 100;
/** Time for the gauge to see the end of its hole once the contender has returned. */
const AFTER_MS = 20;

/** Runs one case: every contender once a round, in turn, so that what else the machine does meets them all alike. */
export async function runCase(
  { scenario, runs, directory, contenders = '', notAfter = Infinity }: CasePlan,
  onNote: (text: string) => void,
  signal: AbortSignal,
): Promise<CaseResult> {
  const cleanup = new Cleanup();
  const result: CaseResult = { scenario, contenders: [] };
  try {
    const scratchDir = await temporary(directory, cleanup);
    const statusDir = await temporary('/dev/shm', cleanup);
    onNote('starting the workloads');
    const entrants = await startHomes(
      { scenario, scratchDir, statusDir, criu: await findCriu() },
      { only: new RegExp(contenders, 'i'), results: result.contenders, cleanup },
    );
    for (
      let round = 0;
      round <= Math.min(runs, scenario.maxRuns ?? Infinity) && (round <= 1 || Date.now() < notAfter);
      round++
    ) {
      for (const entrant of entrants) {
        if (signal.aborted) return result;
        if (round > (entrant.contender.maxRuns?.(scenario) ?? Infinity)) continue;
        onNote(`${round === 0 ? 'first round, not counted' : `round ${round} of ${runs}`}: ${entrant.contender.name}`);
        await takeTurn(entrant, scratchDir, round > 0);
      }
    }
    return result;
  } finally {
    // What was measured is worth keeping even when something is left behind.
    await cleanup[Symbol.asyncDispose]().catch((error: unknown) => (result.leftBehind = message(error)));
  }
}

async function temporary(parent: string, cleanup: Cleanup): Promise<string> {
  const dir = await mkdtemp(join(parent, 'stillframe-bench-'));
  cleanup.defer(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

interface Invitation {
  only: RegExp;
  /** Filled with every contender that was meant to take part. */
  results: ContenderResult[];
  cleanup: Cleanup;
}

/** Starts every home that has a contender here, and notes why some cannot run. */
async function startHomes(setup: CaseSetup, { only, results, cleanup }: Invitation): Promise<Entrant[]> {
  const entrants: Entrant[] = [];
  for (const { start, contenders } of lineUps) {
    const able: Omit<Entrant, 'home'>[] = [];
    for (const contender of contenders) {
      const missing = only.test(contender.name) ? contender.missing(setup.scenario) : null;
      if (missing === null) continue;
      const result: ContenderResult = {
        contender: contender.name,
        samples: [],
        ...(missing === undefined ? {} : { problem: missing }),
      };
      results.push(result);
      if (missing === undefined) able.push({ contender, result });
    }
    if (able.length === 0) continue;
    try {
      const home = cleanup.use(await start(setup));
      entrants.push(...able.map((entrant) => ({ ...entrant, home })));
    } catch (error) {
      for (const { result } of able) result.problem = message(error);
    }
  }
  return entrants;
}

/** A contender that has failed once has no more turns: its workload may not be what it was. */
async function takeTurn({ contender, home, result }: Entrant, scratchDir: string, counts: boolean): Promise<void> {
  if (result.problem !== undefined) return;
  try {
    const sample = await measure(contender, home, scratchDir);
    if (counts) result.samples.push(sample);
  } catch (error) {
    result.problem = message(error);
  }
}

async function measure(contender: Contender, home: Home, scratchDir: string): Promise<Sample> {
  const outDir = join(scratchDir, 'out');
  await mkdir(outDir);
  try {
    // What the contender before left to be written must not be on this one's bill.
    await run('sync', ['--file-system', outDir]);
    await home.gauge.reset();
    await sleep(QUIET_MS);
    const quietMs = home.gauge.read().longestHoleMs;
    await home.gauge.reset();

    const startMs = monotonicMs();
    const start = performance.now();
    const { phases, ...outcome } = await contender.checkpoint(home, outDir);
    const totalMs = performance.now() - start;

    await sleep(AFTER_MS);
    const { longestHoleMs: gapMs, holeBeganMs } = home.gauge.read();
    return {
      gapMs,
      quietMs,
      totalMs,
      ...outcome,
      ...(phases === undefined ? {} : { timeline: { phases, holeBeganMs: holeBeganMs - startMs, holeMs: gapMs } }),
    };
  } finally {
    await rm(outDir, { recursive: true, force: true });
  }
}

/** The gauge's clock, CLOCK_MONOTONIC. */
function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

function message(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n').slice(0, 3).join(' ');
}
