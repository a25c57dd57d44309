/** Memory written ahead of the window. What needs a kernel that tracks memory runs there: npm run test:kernels. */
import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import {
  checkpoint,
  CriuClient,
  findCriu,
  restore,
  type CheckpointOptions,
  type CheckpointReport,
  type PreDumpPlan,
} from '../../../src/index.js';
import { readProcess } from '../../../src/proc/task.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { stillframe } from '../../fixtures/program.js';

let writer: BusyWriter;
let memTrack = false;
beforeAll(async () => {
  await using client = await CriuClient.start({ criuPath: (await findCriu()).path });
  memTrack = (await client.featureCheck({ memTrack: true })).memTrack === true;
});
beforeEach(async () => {
  writer = await BusyWriter.start(freezerVersions()[0] ?? 'v2', { workers: 2, memoryMiB: 32, paceUs: 2000 });
});
afterEach(() => writer[Symbol.asyncDispose]());

const isOurCriu = (found: ReturnType<typeof readProcess>): boolean =>
  found?.ppid === process.pid && found.name === 'criu';
const options = (more: Partial<CheckpointOptions>): CheckpointOptions => ({
  pid: writer.pid,
  files: [{ path: writer.data, name: 'data' }],
  output: writer.path('a.tar'),
  ...more,
});

it('is refused on a kernel that does not track memory, before anything is touched', async ({ skip }) => {
  if (memTrack) skip('needs a kernel without soft-dirty tracking');
  await expect(checkpoint(options({ preDump: { rounds: 2 } }))).rejects.toMatchObject({
    code: 'CRIU_FEATURE_MISSING',
    facts: { feature: 'memTrack' },
  });
  expect(writer.leftovers()).toEqual([]);
  expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
});

it('refuses a plan that is none', async () => {
  for (const preDump of [
    { rounds: 0 },
    { rounds: 1.5 },
    { untilBelowBytes: -1 },
    { untilBelowBytes: 1, maxRounds: 0 },
    { untilBelowBytes: 1, rounds: 1 },
    true,
    null,
    {},
  ]) {
    await expect(checkpoint(options({ preDump: preDump as PreDumpPlan }))).rejects.toMatchObject({
      code: 'BAD_OPTION',
      facts: { option: 'preDump' },
    });
  }
});

it('writes less in the second round, less in the window than without, and is restored from the archive alone, memory and all', async ({
  skip,
}) => {
  if (!memTrack) skip('needs a kernel that tracks memory: npm run test:kernels');
  // Huge pages are tracked as one page: a byte costs 2 MiB.
  const hugePages = /\[(\w+)\]/.exec(readFileSync('/sys/kernel/mm/transparent_hugepage/enabled', 'utf8'))?.[1];
  const plain = await checkpoint(options({ output: writer.path('plain.tar') }));
  const report = await checkpoint(options({ preDump: { rounds: 2 } }));
  const [first, second] = report.preDumps;
  const windowPages = report.criuStats?.pagesWritten ?? Infinity;
  console.log(
    JSON.stringify({
      kernel: readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim(),
      hugePages,
      preDumps: report.preDumps,
      windowPages,
      plainPages: plain.criuStats?.pagesWritten,
    }),
  );
  expect(report.preDumps).toHaveLength(2);
  expect(first!.writtenBytes).toBeGreaterThan(32 << 20);
  expect(second!.writtenBytes).toBeLessThan(first!.writtenBytes);
  expect(windowPages).toBeLessThan(plain.criuStats?.pagesWritten ?? 0);
  expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });

  await writer.destroy();
  const restored = await restore({ archive: writer.path('a.tar') });
  expect(restored.pid).toBe(writer.pid);
  // The workload checks its own memory at every step.
  expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
});

it('goes on until a round wrote little, or no less than the one before', async ({ skip }) => {
  if (!memTrack) skip('needs a kernel that tracks memory: npm run test:kernels');
  const { preDumps } = await checkpoint(options({ preDump: { untilBelowBytes: 2 ** 40 } }));
  expect(preDumps).toHaveLength(1);
  const more = await checkpoint(
    options({ output: writer.path('b.tar'), preDump: { untilBelowBytes: 1, maxRounds: 3 } }),
  );
  const sizes = more.preDumps.map(({ writtenBytes }) => writtenBytes);
  expect(sizes.length).toBeGreaterThan(1);
  expect(sizes.length === 3 || sizes.at(-1)! >= sizes.at(-2)!).toBe(true);
  expect(
    readdirSync(writer.scratch)
      .filter((name) => name.endsWith('.tar'))
      .sort(),
  ).toEqual(['a.tar', 'b.tar']);
});

it('is done by the command, too, which says what each round wrote', async ({ skip }) => {
  if (!memTrack) skip('needs a kernel that tracks memory: npm run test:kernels');
  const common = ['checkpoint', '--pid', String(writer.pid), '--files', `${writer.data}=data`];
  const twice = await stillframe(...common, '--output', writer.path('a.tar'), '--pre-dump', '2');
  expect(twice.status, twice.stderr).toBe(0);
  expect(twice.stdout).toMatch(/^pre-dumped memory: +\d\S* [KM]iB, \d\S* [KM]iB$/m);
  const once = await stillframe(
    ...common,
    '--output',
    writer.path('b.tar'),
    '--pre-dump',
    '3',
    '--pre-dump-until',
    '1G',
    '--json',
  );
  expect((JSON.parse(once.stdout) as CheckpointReport).preDumps).toHaveLength(1);
  await writer.destroy();
  expect(await stillframe('restore', writer.path('a.tar'))).toMatchObject({ status: 0, stdout: `${writer.pid}\n` });
  expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
});

it('gives up a CRIU that somebody has stopped, and the tree runs on', async ({ skip }) => {
  if (!memTrack) skip('needs a kernel that tracks memory: npm run test:kernels');
  const criu = (): number[] =>
    readdirSync('/proc')
      .map(Number)
      .filter((pid) => pid > 0)
      .filter((pid) => isOurCriu(readProcess(pid)));
  let stopped: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  const stop = (): void => {
    stopped = criu()[0];
    if (stopped === undefined) timer = setTimeout(stop, 1);
    else process.kill(stopped, 'SIGSTOP');
  };
  try {
    const outcome = checkpoint(
      options({
        preDump: { rounds: 2 },
        maxFrozenMs: 500,
        onProgress: ({ phase, at }) => void (phase === 'pre-dump' && at === 'start' && stop()),
      }),
    );
    await expect(outcome).rejects.toMatchObject({
      code: 'CRIU_NOT_READY',
      facts: { timeoutMs: 500, state: 'T', during: 'pre-dump' },
    });
  } finally {
    clearTimeout(timer);
  }
  expect(stopped).toBeDefined();
  expect(criu()).toEqual([]);
  expect(writer.leftovers()).toEqual([]);
  expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
});
