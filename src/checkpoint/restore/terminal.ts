import { needsTerminal, terminalProblem } from '../../criu/index.js';
import { bad } from '../base/check-option.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import type { Subject } from '../base/recorded-target.js';
import type { RestoreOptions, RestoreSettings } from '../options.js';

/**
 * The terminal that the tree has to be given, if it has to.
 * @throws CheckpointError NO_TERMINAL, BAD_OPTION
 */
export async function terminalFor(
  imagesDir: string,
  { criuOptions }: Subject,
  { archive, terminal }: RestoreSettings,
  { criu }: RestoreOptions,
): Promise<number | undefined> {
  const { shellJob, orphanPtsMaster } = { ...criuOptions, ...criu };
  if (shellJob !== true || orphanPtsMaster === true || !(await needsTerminal(imagesDir))) return undefined;
  if (terminal === undefined) throw new CheckpointError('NO_TERMINAL', { archivePath: archive });
  // Only now: the command gives whatever its stdin is, and most trees want none.
  const problem = terminalProblem(terminal);
  if (problem !== undefined) bad('terminal', terminal, `a terminal: ${problem}`);
  return terminal;
}
