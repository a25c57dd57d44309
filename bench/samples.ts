/** What a column of samples says. An empty column has no summary. */
export interface Summary {
  median: number;
  min: number;
  max: number;
  /** Nearest-rank; with fewer than 100 samples it is the maximum. */
  p99: number;
  samples: number;
}

export function summarize(values: readonly number[]): Summary | undefined {
  if (values.length === 0) return undefined;
  const sorted = [...values].sort((a, b) => a - b);
  const at = (index: number): number => sorted[Math.min(Math.max(index, 0), sorted.length - 1)]!;
  const half = sorted.length / 2;
  return {
    median: Number.isInteger(half) ? (at(half - 1) + at(half)) / 2 : at(Math.floor(half)),
    min: at(0),
    max: at(sorted.length - 1),
    p99: at(Math.ceil(sorted.length * 0.99) - 1),
    samples: sorted.length,
  };
}

export function medianOf(values: readonly number[]): number | undefined {
  return summarize(values)?.median;
}
