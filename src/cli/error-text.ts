import type { Command } from 'commander';
import { StillframeError } from '../index.js';
import { Cancelled, cancelledText } from './cancelled.js';
import { inFlags } from './flags.js';
import { json } from './output.js';

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

export function errorObject(error: unknown, command: Command): Record<string, unknown> {
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
