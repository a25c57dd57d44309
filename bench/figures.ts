import { STILLFRAME, STILLFRAME_NO_HELPERS } from './line-up.js';
import { RESTORES } from './restore-layer.js';
import type { BenchResult, CaseResult, Sample } from './results.js';
import { medianOf } from './samples.js';
import { fileBytes, type Scenario } from './scenarios.js';
import { COLD_VERSION } from './version-layer.js';

/** A figure to reach, and what this run says about it. */
export interface Figure {
  name: string;
  target: string;
  /** undefined: this run has not measured it. */
  measured: number | undefined;
  unit: '' | ' ms';
  reached: boolean | undefined;
}

const GiB = 2 ** 30;
const BY_HAND = 'by hand';
const CRI_O = "CRI-O's order";

/** Ratios of medians within one run, each named as a sentence. */
export function figuresOf(result: BenchResult): Figure[] {
  const none = find(
    result,
    (s) => s.files.count === 0 && s.memoryMiB === 4 && s.cgroup === 2 && s.container === undefined,
  );
  const gigabyte = find(result, (s) => isGigabyte(s) && !s.whole);
  const smallFiles = find(result, (s) => s.files.count === 1000 && s.files.bytesEach === 1000);
  const manyFiles = find(result, (s) => s.files.count === 100_000 && !s.whole);
  const warm = result.small.find(({ name }) => name.startsWith('VERSION over'))?.columns;
  const cold = result.small.find(({ name }) => name === COLD_VERSION)?.columns;
  const coldOf = (client: string): number | undefined =>
    medianOf(cold?.find(({ name }) => name === client)?.values ?? []);

  const figures: Figure[] = [
    atMost(
      'gap / CRIU’s own frozen time, 4 MB of memory and small files',
      1.3,
      perSample(smallFiles, (s) => s.gapMs / s.criuMs!),
    ),
    atMost(
      'window with 1 GiB of unchanged files / window without files',
      1.15,
      ratio(median(gigabyte, STILLFRAME, windowOf), median(none, STILLFRAME, windowOf)),
    ),
    atMost(
      'window with 100,000 unchanged files, more than without',
      150,
      difference(median(manyFiles, STILLFRAME, windowOf), median(none, STILLFRAME, windowOf)),
      ' ms',
    ),
  ];
  for (const memoryMiB of [64, 512]) {
    const memory = find(result, (s) => s.memoryMiB === memoryMiB && s.cgroup === 2);
    figures.push(
      atMost(
        `window / CRIU’s own frozen time, ${memoryMiB} MB of memory`,
        1.15,
        perSample(memory, (s) => s.windowMs! / s.criuMs!),
      ),
    );
  }
  for (const [order, words] of [
    [BY_HAND, 'the same work by hand'],
    [CRI_O, 'CRI-O’s order'],
  ] as const) {
    figures.push(
      atLeast(
        `gap of ${words} / of Stillframe, without files`,
        3,
        ratio(median(none, order, gapOf), median(none, STILLFRAME, gapOf)),
      ),
    );
    figures.push(
      atLeast(
        `gap of ${words} / of Stillframe, 1 GiB of unchanged files`,
        30,
        ratio(median(gigabyte, order, gapOf), median(gigabyte, STILLFRAME, gapOf)),
      ),
    );
  }
  for (const [words, is] of [
    ['1 GiB in few files', isGigabyte],
    ['100,000 small files', (s: Scenario) => s.files.count === 100_000],
  ] as const) {
    const found = find(result, (s) => s.whole && is(s));
    for (const tar of ['GNU tar alone', 'GNU tar alone, then fsync'] as const) {
      const plain = sum(median(found, tar, totalOf), median(found, 'criu dump alone', totalOf));
      figures.push(
        atMost(
          `whole time / (${tar} + criu dump alone), ${words}`,
          1.3,
          ratio(median(found, STILLFRAME, totalOf), plain),
        ),
      );
    }
  }
  for (const network of ['host network', 'own network'] as const) {
    const found = find(result, (s) => s.container === network);
    const window = median(found, STILLFRAME, windowOf);
    figures.push(
      atMost(
        `window of a runc container / without CRIU’s helpers, ${network}`,
        0.6,
        ratio(window, median(found, STILLFRAME_NO_HELPERS, windowOf)),
      ),
      atLeast(
        `gap of CRI-O’s order / of Stillframe, runc container, ${network}`,
        4,
        ratio(median(found, CRI_O, gapOf), median(found, STILLFRAME, gapOf)),
      ),
    );
  }
  figures.push(atMost('VERSION over a live swrk session', 1, medianOf(warm?.[0]?.values ?? []), ' ms'));
  for (const client of ['libcriu', 'pycriu']) {
    figures.push(
      atMost(`VERSION with the start and the end of CRIU / ${client}`, 1.1, ratio(coldOf(STILLFRAME), coldOf(client))),
    );
  }
  for (const { name, atMost: limit } of RESTORES) {
    const [ours, plain] = result.small.find((found) => found.name === name)?.columns ?? [];
    const measured = ratio(medianOf(ours?.values ?? []), medianOf(plain?.values ?? []));
    figures.push(atMost(`${name}: whole time / (tar -x, criu restore)`, limit, measured));
  }
  return figures;
}

const isGigabyte = (s: Scenario): boolean => fileBytes(s) === GiB && s.files.count === 16 && s.cgroup === 2;
const gapOf = (sample: Sample): number => sample.gapMs;
const windowOf = (sample: Sample): number => sample.windowMs ?? NaN;
const totalOf = (sample: Sample): number => sample.totalMs;

function find(result: BenchResult, is: (scenario: Scenario) => boolean): CaseResult | undefined {
  return result.cases.find(({ scenario }) => is(scenario));
}

/** A contender by its whole name, or else by how its name begins. */
export function samplesOf(found: CaseResult | undefined, contender: string): Sample[] {
  const contenders = found?.contenders ?? [];
  return (
    (
      contenders.find((c) => c.contender === contender) ??
      contenders.find((c) => c.contender.startsWith(`${contender}:`))
    )?.samples ?? []
  );
}

function median(
  found: CaseResult | undefined,
  contender: string,
  value: (sample: Sample) => number,
): number | undefined {
  return medianOf(samplesOf(found, contender).map(value));
}

/** The median of a ratio within each single checkpoint. */
function perSample(found: CaseResult | undefined, value: (sample: Sample) => number): number | undefined {
  return medianOf(
    samplesOf(found, STILLFRAME)
      .filter(({ criuMs }) => criuMs !== undefined)
      .map(value),
  );
}

function ratio(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? undefined : a / b;
}

function difference(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? undefined : a - b;
}

function sum(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? undefined : a + b;
}

function atMost(name: string, limit: number, measured: number | undefined, unit: Figure['unit'] = ''): Figure {
  return {
    name,
    target: `at most ${limit}${unit}`,
    measured,
    unit,
    reached: measured === undefined ? undefined : measured <= limit,
  };
}

function atLeast(name: string, limit: number, measured: number | undefined, unit: Figure['unit'] = ''): Figure {
  return {
    name,
    target: `at least ${limit}${unit}`,
    measured,
    unit,
    reached: measured === undefined ? undefined : measured >= limit,
  };
}
