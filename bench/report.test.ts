import { describe, expect, it } from 'vitest';
import { figuresOf } from './figures.js';
import { STILLFRAME, STILLFRAME_NO_PRECOPY } from './line-up.js';
import { reportHtml } from './report/html.js';
import type { BenchResult, CaseResult, Sample } from './results.js';
import { summarize } from './samples.js';
import { scenarios } from './scenarios.js';
import { caseText } from './tables.js';

const BY_HAND = 'by hand: freeze, criu dump, GNU tar, thaw';

function sample(gapMs: number, criuMs = gapMs): Sample {
  const parts = { freezeMs: 1, callbackMs: 0, dumpMs: gapMs - 3, waitForFilesMs: 0, releaseMs: 1, thawMs: 1 };
  const timeline = {
    phases: [{ phase: 'freeze' as const, at: 'start' as const, sinceMs: 100 }],
    holeBeganMs: 100,
    holeMs: gapMs,
  };
  return { gapMs, quietMs: 0.2, totalMs: 10 * gapMs, criuMs, windowMs: gapMs, parts, timeline };
}

function caseOf(name: string, ours: number[], byHand: number[]): CaseResult {
  const scenario = scenarios.find((s) => s.name === name);
  if (scenario === undefined) throw new Error(`no scenario ${name}`);
  return {
    scenario,
    contenders: [
      { contender: STILLFRAME, samples: ours.map((ms) => sample(ms, ms / 1.1)) },
      { contender: BY_HAND, samples: byHand.map((ms) => sample(ms)) },
    ],
  };
}

function resultOf(cases: CaseResult[]): BenchResult {
  const machine = {
    kernel: '6.x',
    cgroups: 'v2',
    criu: '4.1.1',
    node: '20',
    cpu: '2 x <fast>',
    memory: '1 GiB',
    fileSystem: 'ext4',
    peers: 'none',
    load: '0.1',
  };
  return { machine, startedAt: '2026-01-01T00:00:00.000Z', runs: 3, cases, small: [], roundTrips: [] };
}

const none = caseOf('4 MB of memory, no files, cgroup v2', [20, 22, 21], [80, 84, 90]);
const gigabyte = caseOf('4 MB of memory, 1 GiB in 16 files', [24, 23, 25], [2000, 2100, 2200]);

describe('the summary of samples', () => {
  it('takes the middle of an even number, and the nearest rank for p99', () => {
    expect(summarize([4, 1, 3, 2])).toEqual({ median: 2.5, min: 1, max: 4, p99: 4, samples: 4 });
    expect(summarize(Array.from({ length: 200 }, (_, i) => i))?.p99).toBe(197);
  });

  it('has none for no samples', () => {
    expect(summarize([])).toBeUndefined();
  });
});

describe('the figures to reach', () => {
  const figure = (result: BenchResult, words: string) => figuresOf(result).find(({ name }) => name.includes(words));

  it('are ratios of medians, held against their limit', () => {
    const result = resultOf([none, gigabyte]);
    expect(figure(result, '1 GiB of unchanged files / window without')).toMatchObject({
      measured: 24 / 21,
      reached: true,
    });
    expect(figure(result, 'the same work by hand / of Stillframe, without')).toMatchObject({
      measured: 4,
      reached: true,
    });
    expect(figure(result, 'the same work by hand / of Stillframe, 1 GiB')).toMatchObject({
      measured: 2100 / 24,
      reached: true,
    });
    expect(
      figure(
        resultOf([none, caseOf('4 MB of memory, 1 GiB in 16 files', [30], [90])]),
        '1 GiB of unchanged files / window',
      ),
    ).toMatchObject({ reached: false });
  });

  it('say so when a run has not measured them', () => {
    expect(figure(resultOf([none]), '100,000 unchanged')).toMatchObject({ measured: undefined, reached: undefined });
  });
});

describe('what is printed', () => {
  it('names who was not measured, and why', () => {
    const text = caseText({
      ...none,
      contenders: [...none.contenders, { contender: 'ctr', samples: [], problem: 'ctr is not installed' }],
    });
    expect(text).toContain('not measured: ctr: ctr is not installed');
    expect(text).toMatch(/stillframe +21\.0 \(20\.0 to 22\.0\)/);
  });

  it('labels each line of a chart with what it was measured with', () => {
    const withoutPrecopy = (found: CaseResult, ms: number): CaseResult => ({
      ...found,
      contenders: [...found.contenders, { contender: STILLFRAME_NO_PRECOPY, samples: [sample(ms)] }],
    });
    const html = reportHtml(resultOf([withoutPrecopy(none, 20), withoutPrecopy(gigabyte, 160)]));
    expect(html).toContain('>stillframe, precopy: false  160 ms<');
    expect(html).toContain(`>${BY_HAND}  2,100 ms<`);
  });

  it('is a report in one file that fetches nothing and runs nothing', () => {
    const html = reportHtml(resultOf([none, gigabyte]));
    expect(html.match(/<svg/g)).toHaveLength(2); // gap against bytes, and one window
    expect(html).toContain('2 x &lt;fast&gt;');
    expect(html).not.toMatch(/<script|<link|<img|@import|url\(|\shref=|\ssrc=/);
  });
});
