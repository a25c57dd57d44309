import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { lineUps, STILLFRAME } from '../line-up.js';
import type { BenchResult, CaseResult, Sample } from '../results.js';
import { summarize } from '../samples.js';
import { fileBytes } from '../scenarios.js';

export interface Plotted {
  title: string;
  caption: string;
  /** An svg element that needs nothing around it. */
  svg: string;
}

interface Point {
  contender: string;
  x: string;
  median: number;
  min: number;
  max: number;
}

/** Not a case that measures something else, such as changing files or the other freezer. */
function plain({ scenario }: CaseResult): boolean {
  return scenario.cgroup === 2 && scenario.changing === 0 && !scenario.whole;
}

export function againstBytes(result: BenchResult): Plotted | undefined {
  const cases = result.cases.filter(
    (c) => plain(c) && c.scenario.memoryMiB === 4 && (c.scenario.files.count === 0 || c.scenario.files.count === 16),
  );
  return gapPlot(
    'Gap against bytes of files',
    '16 files that do not change while they are archived; 4 MB of memory. Logarithmic scale.',
    cases,
    (c) => bytesText(fileBytes(c.scenario)),
  );
}

export function againstFileCount(result: BenchResult): Plotted | undefined {
  const cases = result.cases.filter(
    (c) =>
      plain(c) && c.scenario.memoryMiB === 4 && (c.scenario.files.count === 0 || c.scenario.files.bytesEach === 1000),
  );
  return gapPlot(
    'Gap against number of files',
    'Files of 1 kB that do not change while they are archived; 4 MB of memory. Logarithmic scale.',
    cases,
    (c) => `${c.scenario.files.count.toLocaleString('en-US')} files`,
  );
}

export function againstMemory(result: BenchResult): Plotted | undefined {
  const cases = result.cases.filter((c) => plain(c) && c.scenario.files.count === 0);
  return gapPlot(
    'Gap against memory',
    'No files. All of the memory is written by CRIU while the workload stands still. Logarithmic scale.',
    cases,
    (c) => `${c.scenario.memoryMiB} MB`,
  );
}

function gapPlot(
  title: string,
  caption: string,
  cases: readonly CaseResult[],
  xOf: (found: CaseResult) => string,
): Plotted | undefined {
  const points = cases.flatMap((found) => pointsOf(found, xOf(found)));
  if (new Set(points.map(({ x }) => x)).size < 2) return undefined;
  const svg = draw({
    width: 1000,
    height: 360,
    marginLeft: 60,
    marginRight: 370,
    x: { type: 'point', domain: [...new Set(points.map(({ x }) => x))], label: null },
    y: {
      type: 'log',
      domain: [0.8 * Math.min(...points.map(({ min }) => min)), 1.2 * Math.max(...points.map(({ max }) => max))],
      label: 'longest hole, ms',
      grid: true,
      tickFormat: plainNumber,
    },
    color: { domain: CONTENDERS, range: COLORS },
    marks: [
      Plot.ruleX(points, { x: 'x', y1: 'min', y2: 'max', stroke: 'contender', strokeOpacity: 0.35, strokeWidth: 3 }),
      Plot.line(points, { x: 'x', y: 'median', z: 'contender', stroke: 'contender', strokeWidth: 2 }),
      Plot.dot(points, { x: 'x', y: 'median', fill: 'contender', r: 3.5 }),
      Plot.text(endLabels(points), {
        x: 'x',
        y: 'y',
        text: 'label',
        fill: 'contender',
        textAnchor: 'start',
        dx: 12,
        fontSize: 11,
      }),
    ],
  });
  return { title, caption: `${caption} Bars: least to most.`, svg };
}

function pointsOf(found: CaseResult, x: string): Point[] {
  return found.contenders.flatMap(({ contender, samples }) => {
    const summary = summarize(samples.map((sample) => sample.gapMs));
    // What runs with nothing frozen has no gap to show.
    return summary === undefined || / alone/.test(contender)
      ? []
      : [{ contender, x, median: summary.median, min: summary.min, max: summary.max }];
  });
}

/** Each line's name at its right end, pushed apart where two would lie on each other. */
function endLabels(points: readonly Point[]): { contender: string; x: string; y: number; label: string }[] {
  const last = new Map(points.map((point) => [point.contender, point]));
  const lowest = Math.min(...points.map(({ min }) => min));
  const highest = Math.max(...points.map(({ max }) => max));
  const apart = (highest / lowest) ** (1 / 18);
  let below = 0;
  return [...last.values()]
    .sort((a, b) => a.median - b.median)
    .map(({ contender, x, median }) => {
      const y = Math.max(median, below * apart);
      below = y;
      return { contender, x, y, label: `${contender.split(' (')[0]!}  ${plainNumber(median)} ms` };
    });
}

/** One window, part by part, on one clock with the hole that the workload saw. */
export function timeline(result: BenchResult): Plotted | undefined {
  const found =
    result.cases.find(({ scenario }) => scenario.files.count === 100_000 && !scenario.whole) ??
    result.cases.find((c) => typical(c) !== undefined);
  const sample = found === undefined ? undefined : typical(found);
  if (found === undefined || sample?.timeline === undefined || sample.parts === undefined) return undefined;
  const { phases, holeBeganMs, holeMs } = sample.timeline;
  const opened = phases.find(({ phase, at }) => phase === 'freeze' && at === 'start')?.sinceMs ?? holeBeganMs;
  const bars: { row: string; from: number; to: number; what: string }[] = [];
  bars.push({
    row: 'the workload stands still',
    from: holeBeganMs - opened,
    to: holeBeganMs + holeMs - opened,
    what: 'hole',
  });
  let from = 0;
  for (const [part, words] of PARTS) {
    const to = from + sample.parts[part];
    bars.push({ row: words, from, to, what: 'window' });
    from = to;
  }
  const refresh = spanOf(phases, 'refresh');
  if (refresh !== undefined)
    bars.push({
      row: 're-scan and copy what changed',
      from: refresh.from - opened,
      to: refresh.to - opened,
      what: 'beside',
    });
  const svg = draw({
    width: 960,
    height: 300,
    marginLeft: 230,
    marginRight: 60,
    x: { label: 'ms since the freeze was asked for', grid: true },
    y: { type: 'band', domain: bars.map(({ row }) => row), label: null, padding: 0.3 },
    color: { domain: ['hole', 'window', 'beside'], range: ['#1c2024', COLORS[0]!, '#8fb8e0'] },
    marks: [
      Plot.ruleX([0], { stroke: '#b0b4ba' }),
      Plot.barX(bars, { x1: 'from', x2: 'to', y: 'row', fill: 'what' }),
      Plot.text(bars, {
        x: 'to',
        y: 'row',
        text: (bar: { from: number; to: number }) => `${(bar.to - bar.from).toFixed(1)} ms`,
        textAnchor: 'start',
        dx: 6,
        fontSize: 11,
      }),
    ],
  });
  return {
    title: 'One window, part by part',
    caption: `${found.scenario.name}; the checkpoint with the median gap. All else (the first copy, the start of CRIU, sealing the archive) happens while the workload runs.`,
    svg,
  };
}

const PARTS = [
  ['freezeMs', 'freeze, until the kernel confirms'],
  ['dumpMs', 'CRIU seizes and dumps'],
  ['waitForFilesMs', 'wait for the changed files'],
  ['releaseMs', 'CRIU lets go'],
  ['thawMs', 'thaw, until the kernel confirms'],
] as const;

/** Stillframe's checkpoint whose gap is the median one, or next to it. */
function typical(found: CaseResult): Sample | undefined {
  const samples = found.contenders.find(({ contender }) => contender === STILLFRAME)?.samples ?? [];
  return [...samples].sort((a, b) => a.gapMs - b.gapMs)[Math.floor(samples.length / 2)];
}

function spanOf(
  phases: NonNullable<Sample['timeline']>['phases'],
  name: string,
): { from: number; to: number } | undefined {
  const from = phases.find(({ phase, at }) => phase === name && at === 'start')?.sinceMs;
  const to = phases.find(({ phase, at }) => phase === name && at === 'end')?.sinceMs;
  return from === undefined || to === undefined ? undefined : { from, to };
}

/** Each contender that freezes, always in its own colour. */
const CONTENDERS = [...new Set(lineUps.flatMap(({ contenders }) => contenders.map(({ name }) => name)))].filter(
  (name) => !/ alone/.test(name),
);
export const COLORS = ['#0b6bcb', '#6ea8dc', '#4b5563', '#d97706', '#b42318', '#7c5cbf'];

/** An svg element that needs nothing around it. */
export function draw(options: Plot.PlotOptions): string {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const element = Plot.plot({
    ...options,
    document,
    style: { background: 'white', fontFamily: 'system-ui, sans-serif', fontSize: '11px' },
  });
  return element.outerHTML;
}

function bytesText(bytes: number): string {
  return bytes === 0 ? 'no files' : bytes < 2 ** 30 ? `${bytes / 2 ** 20} MiB` : `${bytes / 2 ** 30} GiB`;
}

export function plainNumber(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString('en-US') : value >= 10 ? value.toFixed(0) : value.toFixed(1);
}
