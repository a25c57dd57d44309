import { setTimeout as sleep } from 'node:timers/promises';
import { CriuClient, findCriu } from '../src/index.js';
import { criuClients } from './contenders/criu-clients.js';
import type { SmallResult } from './results.js';

export const COLD_VERSION = 'VERSION with the start and the end of CRIU';

/**
 * VERSION: over a session that lives, and with the start of CRIU, beside other clients; and what 50 clients at once do
 * to the event loop.
 */
export async function measureVersion({
  warmTimes,
  coldTimes,
  crowdTimes,
}: {
  warmTimes: number;
  coldTimes: number;
  crowdTimes: number;
}): Promise<SmallResult[]> {
  const { path: criuPath } = await findCriu();
  return [
    {
      name: 'VERSION over a live swrk session',
      unit: 'ms',
      columns: [{ name: 'stillframe', values: await warm(criuPath, warmTimes) }],
    },
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
 * Start of CRIU, question, answer, end of CRIU, by each client in one run. In another order each time: whoever comes
 * behind Python finds the caches full of it.
 */
async function cold(criuPath: string, times: number): Promise<SmallResult> {
  const clients = criuClients(criuPath);
  const columns = clients.map((client) => ({ name: client.name, client, values: [] as number[] }));
  try {
    for (let i = 0; i <= times; i++) {
      for (const { client, values } of shuffled(columns)) {
        const ms = await client.ask();
        if (i > 0) values.push(ms); // the first loads all
      }
    }
  } finally {
    for (const client of clients) client.end();
  }
  return { name: COLD_VERSION, unit: 'ms', columns: columns.map(({ name, values }) => ({ name, values })) };
}

function shuffled<T>(all: readonly T[]): T[] {
  return all
    .map((one) => ({ one, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ one }) => one);
}

const CROWD = 50;
/** Beside them, how long this machine keeps a loop that does nothing from its core. */
const IDLE_MS = 200;

/** The longest single turn of the event loop, in each of several rounds, while 50 clients do the same at once. */
async function crowd(criuPath: string, times: number): Promise<SmallResult> {
  const columns = [`nothing, for ${IDLE_MS} ms`, 'start', 'VERSION', 'end'].map((name) => ({
    name,
    values: [] as number[],
  }));
  for (let i = 0; i <= times; i++) {
    const clients: CriuClient[] = [];
    const round = [
      await longestTurn(() => sleep(IDLE_MS)),
      await longestTurn(
        async () =>
          void clients.push(
            ...(await Promise.all(Array.from({ length: CROWD }, () => CriuClient.start({ criuPath })))),
          ),
      ),
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
