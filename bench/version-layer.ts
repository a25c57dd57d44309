import { setTimeout as sleep } from 'node:timers/promises';
import { CriuClient, findCriu } from '../src/index.js';
import type { SmallResult } from './results.js';
import { run, workload } from './run.js';

/** VERSION: over a session that lives, and with the start of CRIU, beside a client in C; and what 50 clients at once do to the event loop. */
export async function measureVersion({ warmTimes, coldTimes, crowdTimes }: { warmTimes: number; coldTimes: number; crowdTimes: number }): Promise<SmallResult[]> {
  const { path: criuPath } = await findCriu();
  return [
    { name: 'VERSION over a live swrk session', unit: 'ms', columns: [{ name: 'stillframe', values: await warm(criuPath, warmTimes) }] },
    await cold(criuPath, coldTimes),
    await crowd(criuPath, crowdTimes),
  ];
}

async function warm(criuPath: string, times: number): Promise<number[]> {
  await using client = await CriuClient.start({ criuPath });
  const values: number[] = [];
  for (let i = 0; i < times; i++) {
    const start = performance.now();
    await client.version();
    values.push(performance.now() - start);
  }
  return values;
}

/**
 * Start of CRIU, question, answer, end of CRIU: in turns, in one run. The client in C comes twice: as it is usual, and with a session
 * of its own for CRIU, as ours gives it, so that a terminal's Ctrl-C does not reach it.
 */
async function cold(criuPath: string, times: number): Promise<SmallResult> {
  const ours: number[] = [];
  const inC: number[] = [];
  const inOwnSession: number[] = [];
  const clientInC = async (...more: string[]): Promise<number> => Number((await run(workload('cold-version'), [criuPath, '1', ...more])).split(' ')[0]) / 1e6;
  for (let i = 0; i <= times; i++) {
    const start = performance.now();
    const client = await CriuClient.start({ criuPath });
    await client.version();
    await client.close();
    const oursMs = performance.now() - start;
    const [inCMs, inOwnSessionMs] = [await clientInC(), await clientInC('session')];
    if (i === 0) continue; // the first loads all
    ours.push(oursMs);
    inC.push(inCMs);
    inOwnSession.push(inOwnSessionMs);
  }
  return { name: 'VERSION with the start and the end of CRIU', unit: 'ms', columns: [{ name: 'stillframe', values: ours }, { name: 'a client in C', values: inC }, { name: 'with a session for CRIU', values: inOwnSession }] };
}

const CROWD = 50;
/** Beside them, how long this machine keeps a loop that does nothing from its core. */
const IDLE_MS = 200;

/** The longest single turn of the event loop, in each of several rounds, while 50 clients do the same at once. */
async function crowd(criuPath: string, times: number): Promise<SmallResult> {
  const columns = [`nothing, for ${IDLE_MS} ms`, 'start', 'VERSION', 'end'].map((name) => ({ name, values: [] as number[] }));
  for (let i = 0; i <= times; i++) {
    const clients: CriuClient[] = [];
    const round = [
      await longestTurn(() => sleep(IDLE_MS)),
      await longestTurn(async () => void clients.push(...(await Promise.all(Array.from({ length: CROWD }, () => CriuClient.start({ criuPath })))))),
      await longestTurn(() => Promise.all(clients.map((client) => client.version()))),
      await longestTurn(() => Promise.all(clients.map((client) => client.close()))),
    ];
    if (i === 0) continue; // the first compiles it
    columns.forEach(({ values }, step) => values.push(round[step] ?? NaN));
  }
  return { name: `the longest turn of the event loop, ${CROWD} clients at once`, unit: 'ms', columns };
}

/** A loop that never sleeps: every turn of it ends in the next `setImmediate`. */
async function longestTurn(work: () => Promise<unknown>): Promise<number> {
  let longest = 0;
  let last = performance.now();
  const turn = (): void => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    next = setImmediate(turn);
  };
  let next = setImmediate(turn);
  await work();
  clearImmediate(next);
  return Math.max(longest, performance.now() - last);
}
