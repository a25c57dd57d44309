import { describe, expect, it } from 'vitest';
import { STILLFRAME, STILLFRAME_NO_PRECOPY } from './line-up.js';
import { chartOf, figuresFor } from './report/chart.js';
import type { BenchResult } from './results.js';
import { scenarios } from './scenarios.js';

const sample = (gapMs: number) => ({ gapMs, quietMs: 0.2, totalMs: 1000 });

describe('the chart of the figures', () => {
  const contenders = [
    { contender: STILLFRAME, samples: [12, 10, 11].map(sample) },
    { contender: STILLFRAME_NO_PRECOPY, samples: [90].map(sample) },
    { contender: 'by hand: freeze, criu dump, GNU tar, thaw', samples: [70, 60].map(sample) },
    { contender: "CRI-O's order: runc", samples: [], problem: 'no runc' },
  ];
  const [plain, whole] = [scenarios.find((s) => !s.whole)!, scenarios.find((s) => s.whole)!];
  const result = {
    machine: { kernel: '6.18', criu: '4.2.1', cpu: '2 x a processor' },
    startedAt: '2026-11-29T10:00:00.000Z',
    runs: 3,
    cases: [
      { scenario: plain, contenders },
      { scenario: whole, contenders },
    ],
  } as unknown as BenchResult;

  it('has median, least and most of each contender that is compared, in no case about the whole time', () => {
    expect(figuresFor(result)).toEqual({
      measured: '2026-11-29, Linux 6.18, CRIU 4.2.1, 2 x a processor, 3 rounds',
      figures: [
        { case: plain.name, contender: 'Stillframe', medianMs: 11, minMs: 10, maxMs: 12 },
        { case: plain.name, contender: 'the same by hand', medianMs: 65, minMs: 60, maxMs: 70 },
      ],
    });
  });

  it('is one svg element that says what was measured', () => {
    const svg = chartOf(figuresFor(result));
    expect(svg).toMatch(/^<svg .*<\/svg>$/s);
    for (const text of ['Stillframe', 'the same by hand', plain.name, 'Linux 6.18', '>65<'])
      expect(svg).toContain(text);
  });
});
