import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findCriu } from '../src/index.js';
import type { Contender } from './contenders/contender.js';
import { Cleanup } from './cleanup.js';
import type { Home } from './homes/home.js';
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
export async function runCase({ scenario, runs, directory }: CasePlan, onRound: (text: string) => void, signal: AbortSignal): Promise<CaseResult> {
  await using cleanup = new Cleanup();
  const scratchDir = await mkdtemp(join(directory, 'stillframe-bench-'));
  cleanup.defer(() => rm(scratchDir, { recursive: true, force: true }));
  const statusDir = await mkdtemp('/dev/shm/stillframe-bench-');
  cleanup.defer(() => rm(statusDir, { recursive: true, force: true }));
  const setup = { scenario, scratchDir, statusDir, criu: await findCriu() };

  const results: ContenderResult[] = [];
  const entrants: Entrant[] = [];
  for (const { start, contenders } of lineUps) {
    const present = contenders.flatMap((contender): Entrant['result'][] => {
      const missing = contender.missing(scenario);
      return missing === null ? [] : [{ contender: contender.name, samples: [], ...(missing === undefined ? {} : { problem: missing }) }];
    });
    results.push(...present);
    const able = present.filter(({ problem }) => problem === undefined);
    if (able.length === 0) continue;
    onRound('starting the workloads');
    try {
      const home = cleanup.use(await start(setup));
      for (const result of able) entrants.push({ contender: contenders.find(({ name }) => name === result.contender)!, home, result });
    } catch (error) {
      for (const result of able) result.problem = message(error);
    }
  }

  for (let round = 0; round <= runs && !signal.aborted; round++) {
    for (const { contender, home, result } of entrants) {
      if (result.problem !== undefined || signal.aborted) continue;
      onRound(`${round === 0 ? 'first round, not counted' : `round ${round} of ${runs}`}: ${contender.name}`);
      try {
        const sample = await measure(contender, home, scratchDir);
        if (round > 0) result.samples.push(sample);
      } catch (error) {
        result.problem = message(error);
      }
    }
  }
  return { scenario, contenders: results };
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
    return { gapMs, quietMs, totalMs, ...outcome, ...(phases === undefined ? {} : { timeline: { phases, holeBeganMs: holeBeganMs - startMs, holeMs: gapMs } }) };
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
