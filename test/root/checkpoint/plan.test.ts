/** `planCheckpoint` and `checkpoint --dry-run`: what they say is what a checkpoint does, and nothing is touched. */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { checkpoint, inspect, planCheckpoint, type CheckpointPlanOptions } from '../../../src/index.js';
import { Journal } from '../../../src/checkpoint/guardian/journal.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { program, run, stillframe } from '../../fixtures/program.js';

const version = freezerVersions().at(-1)!;

/** All that a checkpoint would change of a writer and its surroundings. */
function surroundings(writer: BusyWriter): unknown {
  return {
    cgroups: writer.pids.map((pid) => readFileSync(`/proc/${pid}/cgroup`, 'utf8')),
    cgroup: readdirSync(writer.cgroup.path).sort(),
    changed: statSync(writer.cgroup.path).ctimeMs,
    tracers: writer.pids.map((pid) => /^TracerPid:.*$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[0]),
    files: writer.leftovers(),
  };
}

/** Of the command, which has a /dev/shm of its own: the tests beside this one use the machine's. */
async function leftInSharedMemory({ pid, scratch }: BusyWriter): Promise<string[]> {
  const words = [
    process.execPath,
    program,
    'checkpoint',
    '--pid',
    String(pid),
    '--dry-run',
    '--state-dir',
    `${scratch}/no`,
  ];
  const script = 'mount -t tmpfs none /dev/shm && "$@" >/dev/null && echo planned && ls -A /dev/shm';
  const { stdout } = await run('unshare', ['--mount', 'sh', '-c', script, 'sh', ...words]);
  const [planned, ...left] = stdout.toString().trim().split('\n');
  expect(planned).toBe('planned');
  return left;
}

it('says what a checkpoint then does, and touches nothing', async () => {
  await using writer = await BusyWriter.start(version, { memoryMiB: 16 });
  writeFileSync(join(writer.data, 'quiet'), Buffer.alloc(1 << 20));
  const options = {
    pid: writer.pid,
    // The writer's temporary files are there at one moment and not at the next.
    files: [{ path: writer.data, name: 'data', exclude: ['**/state.tmp'] }],
    stateDir: writer.path('state'),
    output: writer.path('a.tar'),
  };
  const before = surroundings(writer);
  const plan = await planCheckpoint({ ...options, observeMs: 200 });
  expect(surroundings(writer)).toEqual(before);
  expect(existsSync(options.stateDir)).toBe(false);
  expect(await leftInSharedMemory(writer)).toEqual([]);
  expect(plan.refusals).toEqual([]);
  expect(plan.cgroup).toEqual({
    version: writer.cgroup.version === 'v1' ? 1 : 2,
    path: writer.cgroup.path,
    move: 'none',
  });
  expect(plan.output?.path).toBe(options.output);

  const report = await checkpoint(options);
  expect(plan.processes.map(({ pid }) => pid).sort()).toEqual([...report.pids].sort());
  const [tree] = (await inspect(options.output)).manifest!.trees;
  expect(plan.trees).toMatchObject([{ name: 'data', path: writer.data, entries: tree!.entries }]);
  expect(plan.trees[0]!.bytes).toBeGreaterThan(1 << 20);
  expect(plan.trees[0]!.changed.entries).toBeGreaterThan(0);
  const written = (report.criuStats?.pagesWritten ?? 0) * 4096;
  expect(plan.memory.dumpedBytes).toBeGreaterThan(written / 2);
  expect(plan.memory.dumpedBytes).toBeLessThan(written * 2);
  expect(plan.window.fromMs).toBeLessThan(plan.window.ms);
  expect(plan.window.basis).toContain(`${plan.processes.length} processes`);
  expect(await writer.isWell()).toMatchObject({ goesOn: true, mismatches: 0 });
});

it('says that a tree has to be moved, and where from', async () => {
  await using writer = await BusyWriter.start(version, { inRootCgroup: true });
  const plan = await planCheckpoint({ pid: writer.pid, stateDir: writer.path('state'), observeMs: 0 });
  expect(plan.cgroup?.move).toBe('needed');
  expect(plan.refusals).toHaveLength(1);
  expect(plan.refusals[0]!.code).toMatch(/^CGROUP_/);
  const asked = await planCheckpoint({ pid: writer.pid, stateDir: writer.path('state'), observeMs: 0, adopt: true });
  expect(asked).toMatchObject({ refusals: [], cgroup: { path: plan.cgroup?.path, move: 'asked' } });
});

it('names all that a checkpoint would be refused for at once', async () => {
  await using writer = await BusyWriter.start(version);
  const stateDir = writer.path('state');
  writeFileSync(writer.path('a.tar'), 'older');
  await using other = await BusyWriter.start(version);
  mkdirSync(stateDir, { mode: 0o700 });
  using _journal = Journal.create(stateDir, {
    target: { pid: writer.pid, startTime: readFileSync(`/proc/${writer.pid}/stat`, 'utf8').split(' ')[21]! },
  });
  const names = readdirSync(stateDir);
  const options: CheckpointPlanOptions = {
    pid: writer.pid,
    files: [{ path: writer.path('missing'), name: 'data' }],
    stateDir,
    output: writer.path('a.tar'),
    observeMs: 0,
    cgroup: other.cgroup.path,
  };
  const { refusals, trees } = await planCheckpoint(options);
  expect(refusals.map(({ code }) => code).sort()).toEqual([
    'OUTPUT_EXISTS',
    'PID_NOT_IN_CGROUP',
    'TARGET_BUSY',
    'TREE_MISSING',
  ]);
  expect(trees).toEqual([]);
  expect(readdirSync(stateDir)).toEqual(names);
  expect(readFileSync(writer.path('a.tar'), 'utf8')).toBe('older');
});

it('counts what would be copied while the tree stands still', async () => {
  await using writer = await BusyWriter.start(version);
  const large = join(writer.data, 'large');
  writeFileSync(large, '');
  truncateSync(large, 512 << 20);
  const options = { pid: writer.pid, files: [{ path: large, name: 'large' }], stateDir: writer.path('state') };
  const quiet = await planCheckpoint({ ...options, observeMs: 0 });
  const all = await planCheckpoint({ ...options, observeMs: 0, precopy: false });
  expect(all.window.filesMs).toBeGreaterThan(quiet.window.filesMs + 200);
});

it.each([
  [{ observeMs: -1 }, '`observeMs` is -1'],
  [{ dryRun: true }, 'there is no option `dryRun`'],
])('refuses %o by its name', async (wrong, message) => {
  await expect(planCheckpoint({ pid: 1, ...wrong } as CheckpointPlanOptions)).rejects.toThrow(message);
});

it('is `checkpoint --dry-run`, which needs no output, and ends with 1 for what would be refused', async () => {
  await using writer = await BusyWriter.start(version);
  const args = ['checkpoint', '--dry-run', '--pid', String(writer.pid), '--state-dir', writer.path('state')];
  const done = await stillframe(...args, '--files', writer.data);
  expect(done).toMatchObject({ status: 0, stderr: '' });
  expect(done.stdout).toMatch(/^frozen window: +about /m);
  expect(done.stdout).toMatch(new RegExp(`^data +${writer.data} `, 'm'));
  expect(done.stdout).toContain('Nothing has been touched.');
  expect(existsSync(writer.path('state'))).toBe(false);

  writeFileSync(writer.path('a.tar'), '');
  const refused = await stillframe(...args, '--output', writer.path('a.tar'), '--json');
  expect(refused.status).toBe(1);
  expect(JSON.parse(refused.stdout)).toMatchObject({ refusals: [{ code: 'OUTPUT_EXISTS' }] });
});
