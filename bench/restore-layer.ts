/** The whole time of a restore, from the call until the tree runs, beside the plain way: a shell, GNU tar and CRIU. */
import { truncate, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkpoint, findCriu, restore } from '../src/index.js';
import { Cleanup } from './cleanup.js';
import { ProcessHome } from './homes/process-home.js';
import type { SmallResult } from './results.js';
import { findProgram, run } from './run.js';
import { small, type Scenario } from './scenarios.js';

interface RestoreCase {
  name: string;
  memoryMiB: number;
  files: Scenario['files'];
  /** How much of the plain way's time it may take. */
  atMost: number;
  /** A file system of its own, in a file; default: that of the directory under test. */
  fileSystem?: 'xfs' | 'btrfs';
}

const ONE_GIB = { count: 16, bytesEach: 64 * 2 ** 20 };

export const RESTORES: readonly RestoreCase[] = [
  { name: 'restore: 64 MB of memory, no files', memoryMiB: 64, files: { count: 0, bytesEach: 0 }, atMost: 1.2 },
  { name: 'restore: 1 GiB in 16 files', memoryMiB: 4, files: ONE_GIB, atMost: 0.9 },
  { name: 'restore: 100,000 files of 1 kB', memoryMiB: 4, files: { count: 100_000, bytesEach: 1000 }, atMost: 0.25 },
  { name: 'restore: 1 GiB in 16 files, XFS', memoryMiB: 4, files: ONE_GIB, atMost: 0.25, fileSystem: 'xfs' },
  { name: 'restore: 1 GiB in 16 files, btrfs', memoryMiB: 4, files: ONE_GIB, atMost: 0.25, fileSystem: 'btrfs' },
];

/** Enough for the tree, its archive, and what is unpacked of it. */
const FILE_SYSTEM_BYTES = 6 * 2 ** 30;

// The tree is born in its cgroup, as Stillframe's is.
const BY_HAND = `
set -eu
criu=$1 archive=$2 directory=$3 procs=$4
tar --extract --file "$archive" --directory "$directory"
echo $$ >"$procs"
exec "$criu" restore --images-dir "$directory/checkpoint" --restore-detached --manage-cgroups=ignore \\
  --log-file restore.log -v2
`;

interface RestorePlan {
  times: number;
  directory: string;
  onNote: (note: string) => void;
  interrupted: () => boolean;
}

/** One case; both ways in turn, from the same archive to the same place. Undefined where it cannot be measured here. */
export async function measureRestore(wanted: RestoreCase, plan: RestorePlan): Promise<SmallResult | undefined> {
  const { name, memoryMiB, files, fileSystem } = wanted;
  if (fileSystem !== undefined && findProgram(`mkfs.${fileSystem}`) === undefined) return undefined;
  await using cleanup = new Cleanup();
  const temporary = async (parent: string): Promise<string> => {
    const dir = await mkdtemp(join(parent, 'stillframe-bench-'));
    cleanup.defer(() => rm(dir, { recursive: true, force: true }));
    return dir;
  };
  let scratchDir = await temporary(plan.directory);
  if (fileSystem !== undefined) scratchDir = await mounted(fileSystem, scratchDir, cleanup);
  const criu = await findCriu();
  const scenario: Scenario = { ...small, name, memoryMiB, files };
  plan.onNote(`${name}: starting the workload`);
  const home = cleanup.use(
    await ProcessHome.start({ scenario, scratchDir, statusDir: await temporary('/dev/shm'), criu }),
  );
  const archive = join(scratchDir, 'archive.tar');
  // Under the name of its directory, so that tar puts it where it was.
  const trees = files.count > 0 ? [{ path: home.filesDir, name: 'process-files' }] : [];
  await checkpoint({ pid: home.pid, cgroup: home.cgroup, files: trees, output: archive, criuPath: criu.path });
  const clear = async (): Promise<void> => {
    await ended(home.pid);
    await rm(home.filesDir, { recursive: true, force: true });
    for (const left of ['checkpoint', 'stillframe', 'dump.log', 'stats-dump'])
      await rm(join(scratchDir, left), { recursive: true, force: true });
    await run('sync', ['--file-system', scratchDir]);
  };
  cleanup.defer(clear);

  const ways: { name: string; bring: () => Promise<unknown>; values: number[] }[] = [
    { name: 'stillframe', bring: () => restore({ archive, cgroup: home.cgroup, criuPath: criu.path }), values: [] },
    {
      name: 'by hand: tar, criu restore',
      bring: () =>
        run('/bin/sh', ['-c', BY_HAND, 'sh', criu.path, archive, scratchDir, join(home.cgroup, 'cgroup.procs')]),
      values: [],
    },
  ];
  for (let round = 0; round <= plan.times; round++) {
    // Each way is first in every other round.
    for (const way of round % 2 === 0 ? ways : [...ways].reverse()) {
      if (plan.interrupted()) break;
      plan.onNote(`${name}: round ${round} of ${plan.times}: ${way.name}`);
      await clear();
      if (files.count === 0) await mkdir(home.filesDir);
      const start = performance.now();
      await way.bring();
      if (round > 0) way.values.push(performance.now() - start);
    }
  }
  return { name, unit: 'ms', columns: ways.map(({ name, values }) => ({ name, values })) };
}

async function mounted(type: 'xfs' | 'btrfs', dir: string, cleanup: Cleanup): Promise<string> {
  const [image, path] = [join(dir, 'image'), join(dir, 'mounted')];
  await writeFile(image, '');
  await truncate(image, FILE_SYSTEM_BYTES);
  await mkdir(path);
  await run(`mkfs.${type}`, ['-q', image]);
  await run('mount', ['-o', 'loop', image, path]);
  cleanup.defer(async () => void (await run('umount', [path])));
  return path;
}

/** Whose child it is reaps it when it likes, and its pid is free only then. */
async function ended(pid: number): Promise<void> {
  while (existsSync(`/proc/${pid}`)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      return;
    }
    await sleep(20);
  }
}
