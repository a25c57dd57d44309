import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { checkpoint } from '../../src/index.js';
import { takeApart } from '../fixtures/forge-archive.js';
import { BusyWriter } from '../fixtures/busy-writer.js';
import { freezerVersions } from '../fixtures/cgroup.js';
import { forgedArchives, mutatedArchives, plainArchives } from './archives.js';
import { FuzzTarget } from './target.js';

export interface FuzzOptions {
  runs: number;
  /** Ends before all runs are done, without a failure. */
  limitMs?: number;
}

export interface FuzzReport {
  archives: number;
  /** How many attempts ended so, by attempt and outcome. */
  ends: Record<string, number>;
  peakMiB: number;
}

/** An archive of a real process tree, written by a real CRIU. */
async function realArchive(): Promise<{ raw: Buffer; parts: Awaited<ReturnType<typeof takeApart>> }> {
  await using writer = await BusyWriter.start(freezerVersions()[0] ?? 'v2');
  const output = writer.path('real.tar');
  await checkpoint({ pid: writer.pid, files: [{ path: writer.data, name: 'data' }], output });
  return { raw: readFileSync(output), parts: await takeApart(output) };
}

/**
 * Tries archives until one breaks a rule of `FuzzTarget`.
 * @throws Error with the smallest that was found, kept in a file
 */
export async function fuzz({ runs, limitMs }: FuzzOptions): Promise<FuzzReport> {
  const { raw, parts } = await realArchive();
  await using target = await FuzzTarget.make();
  const report: FuzzReport = { archives: 0, ends: {}, peakMiB: 0 };
  const result = await fc.check(
    fc.asyncProperty(fc.oneof(forgedArchives, mutatedArchives(raw, parts)), async (archive) => {
      const { ended, peakMiB } = await target.try(archive);
      report.archives++;
      report.peakMiB = Math.max(report.peakMiB, peakMiB);
      for (const [name, end] of Object.entries(ended))
        report.ends[`${name}: ${end}`] = (report.ends[`${name}: ${end}`] ?? 0) + 1;
    }),
    {
      numRuns: runs,
      examples: plainArchives.map((archive): [Buffer] => [archive]),
      ...(limitMs === undefined ? {} : { interruptAfterTimeLimit: limitMs, markInterruptAsFailure: false }),
    },
  );
  if (!result.failed) return report;
  const kept = join(mkdtempSync(join(tmpdir(), 'stillframe-fuzz-')), 'archive');
  writeFileSync(kept, result.counterexample?.[0] ?? Buffer.alloc(0));
  throw new Error(
    `${kept}, seed ${result.seed}, after ${report.archives} archives: ${(result.errorInstance as Error).message}`,
  );
}
