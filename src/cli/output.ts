import { setImmediate as immediate } from 'node:timers/promises';
import type { Command } from 'commander';
import { StillframeError } from '../index.js';
import { Cancelled, cancelledText } from './cancelled.js';
import { inFlags } from './flags.js';
import { visible, visibleJson, visibleName } from '../visible.js';

let hasReader = true;

/** Whoever reads stdout may have read enough (`| head`): that is no failure of ours, and no stack trace is due. */
export function endQuietlyWithoutReader(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    hasReader = false;
  });
}

/** Nothing more has to be worked out for it. */
export class ReaderGone extends Error {
  override readonly name = 'ReaderGone';
}

const CHUNK_CHARS = 1 << 16;

/** For stdout, as `print`, for text of any length: it goes out as fast as it is read, and is not held. */
export class LongOutput {
  #text = '';

  /** @throws ReaderGone, from the promise */
  add(text: string): Promise<void> | undefined {
    this.#text += text;
    return this.#text.length < CHUNK_CHARS ? undefined : this.flush();
  }

  /** @throws ReaderGone */
  async flush(): Promise<void> {
    const text = this.#text;
    this.#text = '';
    // The callback comes in any case, with an error too. That there is no reader is known after it.
    await new Promise<void>((resolve) => process.stdout.write(visible(text), () => resolve()));
    await immediate();
    if (!hasReader) throw new ReaderGone();
  }
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
  if (asJson) return json({ error: errorObject(error, command) });
  // The first is what failed, the others are what could not be undone.
  if (error instanceof AggregateError)
    return [`stillframe: ${error.message}`, ...error.errors.map((each) => errorText(each, false, command))].join('\n');
  if (error instanceof StillframeError) return `stillframe: ${inFlags(error.message, command)} [${error.code}]`;
  if (error instanceof Cancelled) return `stillframe: ${cancelledText(error, command.name())}`;
  return `stillframe: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
}

function errorObject(error: unknown, command: Command): Record<string, unknown> {
  if (error instanceof StillframeError)
    return { ...error.toJSON(), message: inFlags(error.message, command), remedy: inFlags(error.remedy, command) };
  if (error instanceof AggregateError)
    return {
      name: error.name,
      message: error.message,
      errors: error.errors.map((each) => errorObject(each, command)),
    };
  return { name: 'Error', message: plainText(error, command) };
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
