import { visibleJson, visibleName } from '../visible.js';

/** `name: value` lines, the values under each other. */
export function facts(pairs: readonly (readonly [name: string, value: string | number])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length)) + 2;
  return pairs.map(([name, value]) => `${`${name}:`.padEnd(width)}${visibleName(String(value))}`).join('\n');
}

/** What a container's archive does not hold, a line each. */
export function leftOutFacts(leftOut: readonly { source: string; destination: string }[]): [string, string][] {
  return leftOut.map(({ source, destination }) => ['not archived', `${destination} (from ${source})`]);
}

export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return `${unit === 0 ? n : n.toFixed(1)} ${units[unit]}`;
}

export function milliseconds(ms: number): string {
  return ms < 1000 ? `${ms.toFixed(1)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** JSON with big integers as numbers where they fit, as strings where they do not; times to the microsecond. */
export function json(value: unknown, indent = 2): string {
  return visibleJson(JSON.stringify(value, (_, v: unknown) => plain(v), indent));
}

function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  // 80.2792159999999 ms are a difference of two clocks' readings, not a measurement to 13 digits.
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toFixed(3)) : value;
}
