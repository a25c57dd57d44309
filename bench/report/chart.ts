import * as Plot from '@observablehq/plot';
import type { BenchResult } from '../results.js';
import { summarize } from '../samples.js';
import { COLORS, draw, plainNumber } from './plots.js';

/** The gaps of a run in short, as the README publishes them. */
export interface Figures {
  /** When and on what, in a sentence. */
  measured: string;
  figures: { case: string; contender: string; medianMs: number; minMs: number; maxMs: number }[];
}

/** By the beginning of the contender's name in the bench. */
const SHORT: readonly (readonly [string, string])[] = [
  ['stillframe', 'Stillframe'],
  ['by hand', 'the same by hand'],
  ["CRI-O's order", "CRI-O's order"],
];

export function figuresFor({ machine, startedAt, runs, cases }: BenchResult): Figures {
  return {
    measured: `${startedAt.slice(0, 10)}, Linux ${machine.kernel}, CRIU ${machine.criu}, ${machine.cpu}, ${runs} rounds`,
    figures: cases
      .filter(({ scenario }) => !scenario.whole)
      .flatMap(({ scenario, contenders }) =>
        contenders.flatMap(({ contender, samples }) => {
          const short = SHORT.find(([name]) => contender === name || contender.startsWith(`${name}:`))?.[1];
          const gaps = summarize(samples.map(({ gapMs }) => gapMs));
          if (short === undefined || gaps === undefined) return [];
          return [{ case: scenario.name, contender: short, medianMs: gaps.median, minMs: gaps.min, maxMs: gaps.max }];
        }),
      ),
  };
}

const COLORS_OF = [COLORS[0]!, COLORS[2]!, COLORS[3]!];

/** How long the workload stands still, case by case: an svg element that needs nothing around it. */
export function chartOf({ measured, figures }: Figures): string {
  const cases = [...new Set(figures.map((figure) => figure.case))];
  const contenders = SHORT.map(([, short]) => short);
  const widths = Math.max(...cases.map((name) => name.length)) * 6.2;
  return draw({
    width: 860,
    height: 90 + 40 * cases.length,
    marginLeft: 20 + widths,
    marginRight: 60,
    marginTop: 40,
    marginBottom: 80,
    x: {
      type: 'log',
      label: 'the workload stands still: median, least to most; ms, logarithmic',
      labelOffset: 38,
      grid: true,
      tickFormat: plainNumber,
    },
    y: { type: 'band', domain: cases, label: null, tickSize: 0 },
    color: { domain: contenders, range: [...COLORS_OF] },
    marks: [
      ...contenders.map((contender, i) =>
        Plot.text([`●  ${contender}`], {
          frameAnchor: 'top-left',
          dx: 160 * i,
          dy: -30,
          fontSize: 13,
          fill: COLORS_OF[i]!,
        }),
      ),
      Plot.text([measured], { frameAnchor: 'bottom-right', dy: 70, fontSize: 10, fill: '#6b7280' }),
      Plot.ruleY(figures, {
        x1: 'minMs',
        x2: 'maxMs',
        y: 'case',
        stroke: 'contender',
        strokeWidth: 3,
        strokeOpacity: 0.35,
      }),
      Plot.dot(figures, { x: 'medianMs', y: 'case', fill: 'contender', r: 5 }),
      // Where two lie beside each other, their numbers do not.
      ...contenders.map((contender, i) =>
        Plot.text(
          figures.filter((figure) => figure.contender === contender),
          {
            x: 'medianMs',
            y: 'case',
            text: ({ medianMs }: { medianMs: number }) => plainNumber(medianMs),
            dy: i === 2 ? 13 : -12,
            fontSize: 10,
            fill: 'contender',
          },
        ),
      ),
    ],
  });
}
