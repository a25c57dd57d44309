import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkpointContainer, findCriu } from '../src/index.js';
import { PodmanStorage } from './homes/podman-storage.js';
import type { RoundTripResult } from './results.js';
import { findProgram } from './run.js';

export const ROUND_TRIPS = 'round trips of a Podman container with a busy writer';

/** How long a writer may take to begin, and to go on, in milliseconds. */
const WRITER_TIMEOUT_MS = 20_000;

/** The container of this name into this archive; it runs on. */
type Checkpoint = (storage: PodmanStorage, name: string, archive: string) => Promise<unknown>;

const CHECKPOINTS: readonly { name: string; checkpoint: Checkpoint }[] = [
  {
    name: 'stillframe checkpoint --podman, podman container restore',
    checkpoint: ({ options }, podman, output) => checkpointContainer({ podman, output, podmanOptions: options }),
  },
  {
    name: 'podman container checkpoint -R -e, podman container restore',
    checkpoint: (storage, name, archive) =>
      storage.podman('container', 'checkpoint', '--leave-running', '--compress', 'none', '--export', archive, name),
  },
];

interface RoundTripPlan {
  times: number;
  directory: string;
  onNote: (note: string) => void;
  interrupted: () => boolean;
}

/**
 * How many checkpoints of a container that writes without a pause come back to life; both ways in turn, one restore for
 * both.
 */
export async function measureRoundTrips({
  times,
  directory,
  onNote,
  interrupted,
}: RoundTripPlan): Promise<RoundTripResult[]> {
  const missing = ['podman', 'runc'].filter((name) => findProgram(name) === undefined);
  const results: RoundTripResult[] = CHECKPOINTS.map(({ name }) => ({
    name,
    tried: 0,
    restored: 0,
    ...(missing.length === 0 ? {} : { problem: `${missing.join(', ')} is not installed` }),
  }));
  if (missing.length > 0) return results;
  const scratch = await mkdtemp(join(directory, 'stillframe-bench-'));
  try {
    await using storage = await PodmanStorage.make(join(scratch, 'podman'), {
      criuDir: dirname((await findCriu()).path),
      programs: ['busy-writer'],
    });
    for (let round = 1; round <= times; round++) {
      for (const [index, { name, checkpoint }] of CHECKPOINTS.entries()) {
        if (interrupted()) return results;
        onNote(`round trip ${round} of ${times}: ${name}`);
        const result = results[index]!;
        const failure = await roundTrip(storage, checkpoint, join(scratch, 'archive.tar'));
        result.tried++;
        if (failure === undefined) result.restored++;
        else result.failure ??= failure;
      }
    }
    return results;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** One checkpoint of a container that runs on, its removal, and its restore. @returns what went wrong */
async function roundTrip(storage: PodmanStorage, checkpoint: Checkpoint, archive: string): Promise<string | undefined> {
  const name = `stillframe-bench-writer-${process.pid}`;
  await storage.start(name, [], ['/bin/busy-writer', '/data', '--pace-us', '500']);
  try {
    await goesOn(await storage.pidOf(name));
    try {
      await checkpoint(storage, name, archive);
      await storage.remove(name);
      await storage.podman('container', 'restore', '--import', archive);
      return await goesOn(await storage.pidOf(name));
    } catch (error) {
      return lastError(error);
    }
  } finally {
    await storage.podman('rm', '--force', '--time', '0', '--ignore', name);
    await rm(archive, { force: true });
  }
}

interface WriterStatus {
  steps: number[];
  mismatches: number;
  lost: string;
}

/** Waits until every worker has made steps. @returns what it says of its files when they differ from its memory */
async function goesOn(pid: number): Promise<string | undefined> {
  const end = performance.now() + WRITER_TIMEOUT_MS;
  let first: WriterStatus | undefined;
  for (;;) {
    const status = readStatus(pid);
    if (status !== undefined && (status.mismatches > 0 || status.lost !== ''))
      return `${status.mismatches} differences between files and memory; ${status.lost}`;
    first ??= status;
    if (first !== undefined && status?.steps.every((steps, worker) => steps > first!.steps[worker]! + 3) === true)
      return undefined;
    if (performance.now() > end) return 'the writer does not go on';
    await sleep(20);
  }
}

function readStatus(pid: number): WriterStatus | undefined {
  try {
    return JSON.parse(readFileSync(`/proc/${pid}/root/data/status`, 'utf8')) as WriterStatus;
  } catch {
    return undefined; // not there yet, or read between the two halves of a write
  }
}

/** CRIU's own line, out of the log that runc's message names; else the last of what was said. */
function lastError(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const logPath = /log file: (\S+)/.exec(text)?.[1];
  const lines = (logPath !== undefined && existsSync(logPath) ? readFileSync(logPath, 'utf8') : text)
    .split('\n')
    .filter((line) => line.trim() !== '');
  // That CRIU cannot raise its own limit of open files is a warning, whatever it is called.
  return (lines.find((line) => /Error \(criu/.test(line) && !line.includes('RLIMIT')) ?? lines.at(-1) ?? '')
    .trim()
    .slice(-160);
}
