import Table from 'cli-table3';
import type { Command } from 'commander';
import { StillframeError } from '../index.js';
import { Cancelled, cancelledText } from './cancelled.js';
import { inFlags } from './flags.js';
import { visible, visibleJson, visibleName } from '../visible.js';

/** Exit statuses of the command: 0 done, 1 failed, 2 wrong usage. */
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;

/** Whoever reads stdout may have read enough (`| head`): that is no failure of ours, and no stack trace is due. */
export function endQuietlyWithoutReader(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

const PLAIN_BORDERS = Object.fromEntries(
  [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
    'left',
    'left-mid',
    'mid',
    'mid-mid',
    'right',
    'right-mid',
  ].map((name) => [name, '']),
);

/** Rows under a head, in columns a person can read and `awk` can split; numbers to the right. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const numeric = head.map(
    (_, column) =>
      rows.length > 0 &&
      rows.every(
        (row) =>
          typeof row[column] === 'number' || /^[\d.,]+( (ms|s|B|[KMGT]iB|%|x))?$/.test(String(row[column] ?? '')),
      ),
  );
  const grid = new Table({
    head: [...head],
    colAligns: numeric.map((right) => (right ? 'right' : 'left')),
    chars: { ...PLAIN_BORDERS, middle: '  ' },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  for (const row of rows) grid.push(row.map((cell) => visibleName(String(cell))));
  return grid.toString().replace(/[ \t]+$/gm, '');
}

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

/** Pretty JSON with big integers as numbers where they fit, as strings where they do not. */
export function json(value: unknown): string {
  return visibleJson(
    JSON.stringify(
      value,
      (_, v: unknown) => (typeof v === 'bigint' ? (Number.isSafeInteger(Number(v)) ? Number(v) : String(v)) : v),
      2,
    ),
  );
}

/** What a failure looks like: on stderr for a person, as an object with `error` for a program. */
export function errorText(error: unknown, asJson: boolean, command: Command): string {
  if (asJson) {
    return json({
      error:
        error instanceof StillframeError
          ? { ...error.toJSON(), message: inFlags(error.message, command), remedy: inFlags(error.remedy, command) }
          : { name: 'Error', message: plainText(error, command) },
    });
  }
  if (error instanceof StillframeError) return `stillframe: ${inFlags(error.message, command)} [${error.code}]`;
  if (error instanceof Cancelled) return `stillframe: ${cancelledText(error, command.name())}`;
  return `stillframe: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
}

function plainText(error: unknown, command: Command): string {
  if (error instanceof Cancelled) return cancelledText(error, command.name());
  return error instanceof Error ? error.message : String(error);
}

/** For stdout. Nothing that a terminal would act on gets there, wherever the text came from. */
export function print(text: string): void {
  process.stdout.write(`${visible(text)}\n`);
}

/** For stderr. */
export function printError(text: string): void {
  process.stderr.write(`${visible(text)}\n`);
}
