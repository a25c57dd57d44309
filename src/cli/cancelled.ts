import { constants } from 'node:os';
import { EXIT_FAILED, EXIT_USAGE } from './exit-status.js';

/** Why the command's work is given up: a signal that somebody sent to it. */
export class Cancelled extends Error {
  override readonly name = 'Cancelled';

  constructor(readonly signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP') {
    super(`cancelled by ${signal}`);
  }
}

/** What the cancelled command has left behind, in a few words: nothing. */
const LEFT: Readonly<Record<string, string>> = {
  checkpoint: 'the tree runs on, no archive was written',
  pod: 'the containers run on, no archive was written',
  restore: 'what was begun has been undone',
  prepare: 'no directory was made',
  freeze: 'the freeze was withdrawn',
};

export function cancelledText({ message }: Cancelled, command: string): string {
  return LEFT[command] === undefined ? message : `${message}: ${LEFT[command]}`;
}

/** The code of wrong usage, in every room. */
const USAGE = 'BAD_OPTION';

/** The cancellation in place of what it made of the work; but not of what could not be put right (`LEFT_FROZEN`). */
export function failure(error: unknown, { aborted, reason }: AbortSignal): unknown {
  return aborted && reason instanceof Cancelled && !isWorse(error) ? reason : error;
}

/** 128 and the signal's number, as a shell has it; else what the code says. */
export function exitStatusOf(error: unknown, signal: AbortSignal): number {
  const shown = failure(error, signal);
  if (shown instanceof Cancelled) return 128 + constants.signals[shown.signal];
  return (error as { code?: unknown }).code === USAGE ? EXIT_USAGE : EXIT_FAILED;
}

function isWorse(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code === 'LEFT_FROZEN' || code === 'LEFT_BEHIND' || error instanceof AggregateError;
}
