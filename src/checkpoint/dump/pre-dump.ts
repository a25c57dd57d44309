import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CriuClient, CriuError, readDumpStats, type CriuDumpOptions } from '../../criu/index.js';
import { runningTree } from '../base/pids.js';
import type { Deadline } from '../window/deadline.js';
import { GHOST_LIMIT, sessionIsOutside } from './dump.js';

/** How often memory is written ahead of the frozen window, while the tree runs. */
export type PreDumpPlan =
  | { rounds: number }
  /** Until a round wrote less than so many bytes, or no less than the one before, or there were `maxRounds` (default 8). */
  | { untilBelowBytes: number; maxRounds?: number };

/** One round, as CRIU measured it. */
export interface PreDumpRound {
  /** Memory written by this round: the first writes all, the others what was changed since the one before. */
  writtenBytes: number;
  /** How long the tree stood still for it, in milliseconds: CRIU stops it to look which pages are in use. */
  frozenMs: number;
}

export interface PreDumps {
  rounds: PreDumpRound[];
  /** What the dump needs to rest on them. */
  dump: Pick<CriuDumpOptions, 'trackMem' | 'parentImg'>;
}

export interface PreDumpOptions {
  criuPath: string;
  pid: number;
  /** The dump's images' directory: each round gets a directory in it, so that the archive holds them all. */
  imagesDir: string;
  /** Where the logs go, and each round's statistics. */
  workDir: string;
  plan: PreDumpPlan;
  overrides: CriuDumpOptions;
  /** Ends it when the caller cancels, or when somebody stops CRIU. */
  deadline: Deadline;
  onRound?: (round: PreDumpRound) => void;
}

/** The name of CRIU's log of the last round in the work directory. */
export const PRE_DUMP_LOG = 'pre-dump.log';

// CRIU counts pages; those of x86, and of most arm64 kernels, have 4 KiB.
const pageBytes = 4096;
const defaultMaxRounds = 8;

/**
 * Nothing is touched when the kernel does not track memory.
 * @throws CriuError CRIU_FEATURE_MISSING, CRIU_TIMEOUT
 */
export async function requireMemTrack(
  criuPath: string,
  { signal, timeoutMs }: { signal: AbortSignal | undefined; timeoutMs: number },
): Promise<void> {
  await using client = await CriuClient.start({ criuPath });
  const { memTrack } = await client.featureCheck(
    { memTrack: true },
    { timeoutMs, ...(signal === undefined ? {} : { signal }) },
  );
  if (memTrack !== true)
    throw new CriuError('CRIU_FEATURE_MISSING', {
      request: 'PRE_DUMP',
      feature: 'memTrack',
      problem: 'dirty-tracking',
    });
}

/**
 * Writes the memory of the running tree, again and again what was changed since, so that the dump inside the window has
 * little left to write.
 *
 * Without the freezer cgroup: CRIU stops the tasks one by one, and its death lets them go, where a frozen cgroup would
 * stay frozen with no guardian to thaw it.
 * @throws CriuError; CheckpointError CRIU_NOT_READY
 */
export async function preDump({
  criuPath,
  pid,
  imagesDir,
  workDir,
  plan,
  overrides,
  deadline,
  onRound,
}: PreDumpOptions): Promise<PreDumps> {
  const rounds: PreDumpRound[] = [];
  do {
    deadline.signal.throwIfAborted();
    const name = roundDir(rounds.length + 1);
    await mkdir(join(imagesDir, name), { mode: 0o700 });
    await using client = await CriuClient.start({ criuPath });
    deadline.awaitPreDump(client.pid);
    try {
      await client.singlePreDump(
        {
          logLevel: 2,
          fileLocks: true,
          shellJob: sessionIsOutside(runningTree(pid)),
          ghostLimit: GHOST_LIMIT,
          ...overrides,
          pid,
          imagesDir: join(imagesDir, name),
          workDir,
          logFile: PRE_DUMP_LOG,
          trackMem: true,
          ...(rounds.length === 0 ? {} : { parentImg: `../${roundDir(rounds.length)}` }),
        },
        { signal: deadline.signal },
      );
    } catch (error) {
      throw deadline.exceeded ?? error;
    } finally {
      deadline.stop();
    }
    const { pagesWritten, freezingTimeUs, frozenTimeUs } = await readDumpStats(workDir);
    const round = { writtenBytes: pagesWritten * pageBytes, frozenMs: (freezingTimeUs + frozenTimeUs) / 1000 };
    rounds.push(round);
    onRound?.(round);
  } while (goesOn(plan, rounds));
  return { rounds, dump: { trackMem: true, parentImg: roundDir(rounds.length) } };
}

function roundDir(round: number): string {
  return `pre-dump-${round}`;
}

function goesOn(plan: PreDumpPlan, rounds: readonly PreDumpRound[]): boolean {
  if ('rounds' in plan) return rounds.length < plan.rounds;
  const [before, last] = [rounds.at(-2)?.writtenBytes ?? Infinity, rounds.at(-1)?.writtenBytes ?? 0];
  return last >= plan.untilBelowBytes && last < before && rounds.length < (plan.maxRounds ?? defaultMaxRounds);
}
