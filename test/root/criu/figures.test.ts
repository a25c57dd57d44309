/** What the client may cost. Bounds are generous where a busy machine decides; what was measured is printed. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { CriuClient, findCriu } from '../../../src/criu/index.js';

let criuPath: string;
let version: string;
beforeAll(async () => {
  ({ path: criuPath, version } = await findCriu());
});
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

test('1000 sessions, one after another, leave no descriptor and no memory behind', () => {
  // In a process of its own, where a collection can be asked for: what memory it has then is kept, be it JavaScript's
  // or the addon's.
  const script = `
    import { readdirSync } from 'node:fs';
    import { CriuClient } from ${JSON.stringify(join(import.meta.dirname, '../../../dist/src/criu/index.js'))};
    const after = async (sessions) => {
      for (let i = 0; i < sessions; i++) {
        const client = await CriuClient.start({ criuPath: ${JSON.stringify(criuPath)} });
        await client.version();
        await client.close();
      }
      for (let i = 0; i < 5; i++) { gc(); await new Promise(setImmediate); }
      const { heapUsed, external, rss } = process.memoryUsage();
      return { fds: readdirSync('/proc/self/fd').length, heap: heapUsed + external, resident: rss };
    };
    console.log(JSON.stringify([await after(200), await after(1000)]));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--expose-gc', '--input-type=module', '-e', script], {
    encoding: 'utf8',
    timeout: 240_000,
  });
  expect(stderr).toBe('');
  const [before, after] = JSON.parse(stdout) as [Kept, Kept];
  const grown = { heap: (after.heap - before.heap) / 2 ** 20, resident: (after.resident - before.resident) / 2 ** 20 };
  console.log(
    `1000 sessions: heap and buffers ${grown.heap.toFixed(1)} MiB more, resident memory ${grown.resident.toFixed(1)} MiB`,
  );
  expect(after.fds).toBe(before.fds);
  // A leaked session would be some 40 KiB, 40 MiB in all; the allocators keep a few of their own.
  expect(grown.heap).toBeLessThan(10);
  expect(grown.resident).toBeLessThan(20);
}, 240_000);

interface Kept {
  fds: number;
  heap: number;
  resident: number;
}

// What they do to the event loop, bench/version-layer.ts measures: a figure for a quiet machine, not a test.
test('50 clients at once answer on one event loop', async () => {
  const clients = await Promise.all(Array.from({ length: 50 }, () => CriuClient.start({ criuPath })));
  try {
    const answers = await Promise.all(clients.map((client) => client.version()));
    expect(answers.map(({ text }) => text)).toEqual(answers.map(() => version));
  } finally {
    await Promise.all(clients.map((client) => client.close()));
  }
});
