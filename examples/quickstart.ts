/**
 * The whole story, on a real and busy process tree, on each freezer of this machine:
 * checkpoint it while it works, let it run on, kill it, delete its files, restore it from the archive
 * alone, and let it prove that it goes on from exactly where the checkpoint was.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
  checkpoint,
  freezerVersions,
  hierarchyRoot,
  placeProcess,
  processTree,
  readMember,
  removeCgroup,
  restore,
  StillframeError,
} from '../src/index.js';
import { ProgressLine } from '../src/cli/progress.js';
import { bytes } from '../src/cli/output.js';
import { table } from '../src/cli/table.js';

const WORKERS = 3;
const writer = join(dirname(fileURLToPath(import.meta.url)), '../../build/workloads/busy-writer');

interface Status {
  pid: number;
  steps: number[];
  checks: number;
  mismatches: number;
  holeMs: number;
  lost: string;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** The writer rewrites its status in place every 5 ms; a reader between two halves sees no JSON. */
async function readStatus(dir: string): Promise<Status> {
  for (let attempt = 0; ; attempt++) {
    try {
      return JSON.parse(readFileSync(join(dir, 'status'), 'utf8')) as Status;
    } catch (error) {
      if (attempt === 100) throw error;
      await sleep(10);
    }
  }
}

function killTree(pid: number): void {
  try {
    for (const member of processTree(pid)) process.kill(member.pid, 'SIGKILL');
  } catch {
    // it has ended
  }
}

async function story(version: 1 | 2): Promise<(string | number)[]> {
  const scratch = mkdtempSync(join(tmpdir(), 'stillframe-quickstart-'));
  const data = join(scratch, 'data');
  const archive = join(scratch, 'busy.tar');
  const cgroup = join(hierarchyRoot(version)!, `stillframe-quickstart-${process.pid}`);
  let pid: number | undefined;
  const progress = new ProgressLine();
  try {
    mkdirSync(data);
    say(`\nFreezer v${version} (${cgroup})`);
    const child = spawn(writer, [data, '--workers', String(WORKERS)], { detached: true, stdio: 'ignore' });
    if (child.pid === undefined) throw new Error(`cannot start ${writer}`);
    pid = child.pid;
    await sleep(300); // all its processes are there
    for (const process of processTree(pid)) placeProcess(process.pid, cgroup);
    await sleep(700);
    const before = await readStatus(data);
    say(
      `  a writer of ${processTree(pid).length} processes is at work: ${before.steps.reduce((a, b) => a + b)} steps, ${before.checks} checks of its own files`,
    );

    process.kill(pid, 'SIGUSR1'); // the gauge forgets the holes of its start
    await sleep(200);
    const report = await checkpoint({
      pid,
      files: [{ path: data, name: 'data' }],
      output: archive,
      onProgress: progress.update,
    });
    const seen = await readStatus(data);
    say(
      `  checkpointed while it ran: it stood still for ${seen.holeMs.toFixed(1)} ms as it saw it itself, ${report.windowMs.toFixed(1)} ms by our clock`,
    );
    await sleep(500);

    killTree(pid);
    rmSync(data, { recursive: true });
    say('  let it run on, then killed it and deleted all its files');

    const restored = await restore({ archive, onProgress: progress.update });
    progress.stop();
    await sleep(700);
    const after = await readStatus(data);
    if (after.pid !== restored.pid) throw new Error(`the restored tree says it is ${after.pid}, not ${restored.pid}`);
    const inArchive: number[] = [];
    for (let i = 0; i < WORKERS; i++)
      inArchive.push(Number((await readMember(archive, `data/w${i}/state`)).toString()));
    const onward = after.steps.map((step, i) => step - inArchive[i]!);
    if (after.mismatches !== 0)
      throw new Error(`the restored tree found its files and its memory to differ: ${after.lost}`);
    if (onward.some((steps) => steps <= 0 || steps > 100_000))
      throw new Error(`the restored tree did not go on: ${JSON.stringify({ inArchive, now: after.steps })}`);
    say(
      `  restored from the archive alone: the files were at steps ${inArchive.join(', ')}; memory agreed in ${after.checks} checks, 0 differed; it has gone on by ${onward.join(', ')} steps`,
    );
    return [
      `v${version}`,
      `${seen.holeMs.toFixed(1)} ms`,
      `${report.windowMs.toFixed(1)} ms`,
      bytes(statSync(archive).size),
      after.checks,
      after.mismatches,
    ];
  } finally {
    progress.stop();
    if (pid !== undefined) killTree(pid);
    await removeCgroup(cgroup);
    rmSync(scratch, { recursive: true, force: true });
  }
}

try {
  const versions = freezerVersions();
  if (versions.length === 0) throw new Error('this machine has no cgroup freezer; see: npx stillframe doctor');
  const rows = [];
  for (const version of versions) rows.push(await story(version));
  say(
    `\n${table(['freezer', 'stood still (its own clock)', 'frozen window', 'archive', 'self-checks passed', 'failed'], rows)}`,
  );
} catch (error) {
  process.stderr.write(
    `quickstart: ${error instanceof StillframeError ? error.message : error instanceof Error ? error.stack : String(error)}\n`,
  );
  process.exitCode = 1;
}
