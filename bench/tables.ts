import { plainTable } from '../src/cli/table.js';
import { figuresOf, type Figure } from './figures.js';
import type { Machine } from './machine.js';
import type { BenchResult, CaseResult, ContenderResult, RoundTripResult, Sample, SmallResult } from './results.js';
import { summarize } from './samples.js';

/** Columns under a head: the first to the left, figures to the right. */
export function grid(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return plainTable(
    head,
    head.map((_, column) => (column === 0 ? 'left' : 'right')),
    rows,
  );
}

export function machineLines(machine: Machine): [name: string, value: string][] {
  return Object.entries(machine).map(([name, value]) => [
    name.replace(/[A-Z]/g, (c) => ` ${c.toLowerCase()}`),
    String(value),
  ]);
}

/** "23.4 (21.0 to 30.2)", or "" for an empty column. */
export function spread(values: readonly number[]): string {
  const summary = summarize(values);
  if (summary === undefined) return '';
  return `${number(summary.median)} (${number(summary.min)} to ${number(summary.max)})`;
}

export function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export const CASE_HEAD = [
  '',
  'gap, ms',
  'window, ms',
  "CRIU's own, ms",
  'in all, ms',
  'gauge when quiet, ms',
  'samples',
] as const;

export function caseRow({ contender, samples }: ContenderResult): string[] {
  const column = (value: (sample: Sample) => number | undefined): string =>
    spread(samples.map(value).filter((v) => v !== undefined));
  return [
    contender,
    column((s) => s.gapMs),
    column((s) => s.windowMs),
    column((s) => s.criuMs),
    column((s) => s.totalMs),
    column((s) => s.quietMs),
    String(samples.length),
  ];
}

/** Who has no samples, or fewer, and why. */
export function problemsOf({ contenders, leftBehind }: CaseResult): string[] {
  const problems = contenders.flatMap(({ contender, samples, problem }) =>
    problem === undefined
      ? []
      : [
          `${samples.length === 0 ? 'not measured' : `broken off after ${samples.length} rounds`}: ${contender}: ${problem}`,
        ],
  );
  return leftBehind === undefined ? problems : [...problems, leftBehind];
}

export function caseText(found: CaseResult): string {
  const measured = found.contenders.filter(({ samples }) => samples.length > 0);
  return [
    found.scenario.name,
    ...(measured.length === 0 ? [] : [grid(CASE_HEAD, measured.map(caseRow))]),
    ...problemsOf(found),
  ].join('\n');
}

export const SMALL_HEAD = ['', 'who', 'ms', 'p99', 'samples'] as const;

export function smallRows({ name, columns }: SmallResult): string[][] {
  return columns.map((column, index) => {
    const summary = summarize(column.values);
    return [
      index === 0 ? name : '',
      column.name,
      spread(column.values),
      summary === undefined ? '' : number(summary.p99),
      String(column.values.length),
    ];
  });
}

export const ROUND_TRIP_HEAD = ['round trips of a Podman container with a busy writer', 'restored', ''] as const;

export function roundTripRow({ name, tried, restored, failure, problem }: RoundTripResult): string[] {
  return [name, problem === undefined ? `${restored} of ${tried}` : 'not tried', problem ?? failure ?? ''];
}

export const FIGURE_HEAD = ['figure to reach', 'target', 'measured', ''] as const;

export function figureRow({ name, target, measured, unit, reached }: Figure): string[] {
  return [
    name,
    target,
    measured === undefined ? 'not measured' : `${number(measured)}${unit}`,
    reached === undefined ? '' : reached ? 'reached' : 'NOT REACHED',
  ];
}

/** The end of a run on the terminal: small measurements, round trips, then the figures to reach. */
export function summaryText(result: BenchResult): string {
  const small = result.small.length === 0 ? '' : `${grid(SMALL_HEAD, result.small.flatMap(smallRows))}\n\n`;
  const roundTrips =
    result.roundTrips.length === 0 ? '' : `${grid(ROUND_TRIP_HEAD, result.roundTrips.map(roundTripRow))}\n\n`;
  return `${small}${roundTrips}${grid(FIGURE_HEAD, figuresOf(result).map(figureRow))}`;
}
