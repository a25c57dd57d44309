/** What the client may cost. Bounds are generous where a busy machine decides; what was measured is printed. */
import { readdirSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { beforeAll, expect, test } from 'vitest';
import { CriuClient, findCriu } from '../../../src/criu/index.js';

let criuPath: string;
beforeAll(async () => {
  criuPath = (await findCriu()).path;
});
const openFds = (): number => readdirSync('/proc/self/fd').length;
const median = (values: number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;

test('a version over a warm session takes about a millisecond at most', async () => {
  await using client = await CriuClient.start({ criuPath });
  await client.version();
  const times: number[] = [];
  for (let i = 0; i < 500; i++) {
    const start = performance.now();
    await client.version();
    times.push(performance.now() - start);
  }
  console.log(`VERSION, warm: median ${median(times).toFixed(3)} ms`);
  expect(median(times)).toBeLessThan(5);
});

test('1000 sessions, one after another, leave no descriptor and no memory behind', async () => {
  const session = async (): Promise<void> => {
    await using client = await CriuClient.start({ criuPath });
    await client.version();
  };
  for (let i = 0; i < 200; i++) await session();
  const fds = openFds();
  const before = process.memoryUsage();
  for (let i = 0; i < 1000; i++) await session();
  const after = process.memoryUsage();
  const grown = (after.heapUsed + after.external - before.heapUsed - before.external) / 2 ** 20;
  console.log(`1000 sessions: heap and buffers ${grown.toFixed(1)} MiB more before a collection`);
  expect(openFds()).toBe(fds);
  // Garbage that was not collected yet included; a leaked session would be some 40 KiB, 40 MiB in all.
  expect(grown).toBeLessThan(30);
}, 240_000);

test('50 clients at once answer on one event loop', async () => {
  const clients = await Promise.all(Array.from({ length: 50 }, () => CriuClient.start({ criuPath })));
  try {
    await Promise.all(clients.map((client) => client.version()));
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    let answers = 0;
    for (let round = 0; round < 20; round++) answers += (await Promise.all(clients.map((client) => client.version()))).length;
    delay.disable();
    console.log(`50 clients: event loop delay p50 ${(delay.percentile(50) / 1e6).toFixed(2)} ms, p99 ${(delay.percentile(99) / 1e6).toFixed(2)} ms, max ${(delay.max / 1e6).toFixed(2)} ms`);
    // The delay is a figure for a quiet machine, not a test.
    expect(answers).toBe(1000);
  } finally {
    await Promise.all(clients.map((client) => client.close()));
  }
});
