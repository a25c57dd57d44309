import type { Command } from 'commander';
import type { RecordedWarning, Warning } from '../index.js';
import { inFlags } from './flags.js';

/** For a person, at a terminal: one paragraph a warning, in the words of the command; '' when there is none. */
export function warningsText(warnings: readonly (Warning | RecordedWarning)[], command: Command): string {
  return warnings
    .map(({ code, message, remedy }) => `warning: ${message} [${code}]\n${inFlags(remedy, command)}\n`)
    .join('');
}
