import { CriuClient, findCriu } from '../src/index.js';
import type { SmallResult } from './results.js';
import { run, workload } from './run.js';

/** VERSION: over a session that lives, and with the start of CRIU, beside a client in C. */
export async function measureVersion({ warmTimes, coldTimes }: { warmTimes: number; coldTimes: number }): Promise<SmallResult[]> {
  const { path: criuPath } = await findCriu();
  return [
    { name: 'VERSION over a live swrk session', unit: 'ms', columns: [{ name: 'stillframe', values: await warm(criuPath, warmTimes) }] },
    await cold(criuPath, coldTimes),
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

/** Start of CRIU, question, answer, end of CRIU: in turns, in one run. */
async function cold(criuPath: string, times: number): Promise<SmallResult> {
  const ours: number[] = [];
  const inC: number[] = [];
  for (let i = 0; i <= times; i++) {
    const start = performance.now();
    const client = await CriuClient.start({ criuPath });
    await client.version();
    await client.close();
    const oursMs = performance.now() - start;
    const [line] = (await run(workload('cold-version'), [criuPath, '1'])).split('\n');
    if (i === 0) continue; // the first loads both
    ours.push(oursMs);
    inC.push(Number(line?.split(' ')[0]) / 1e6);
  }
  return { name: 'VERSION with the start and the end of CRIU', unit: 'ms', columns: [{ name: 'stillframe', values: ours }, { name: 'a client in C', values: inC }] };
}
