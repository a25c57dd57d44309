import { basename } from 'node:path';
import { listArchives, type ArchivedTarget, type ListedArchive } from '../../index.js';
import { bytes, json, milliseconds } from '../output.js';
import { print, printError } from '../streams.js';
import { table } from '../table.js';

/** What commander hands over. */
export interface ListFlags {
  json?: boolean;
}

export async function listAction(dir: string, options: ListFlags, signal: AbortSignal): Promise<void> {
  const list = await listArchives(dir, { signal });
  if (options.json === true) return print(json(list));
  const { archives, otherFiles } = list;
  if (archives.length === 0) print('no archives');
  else print(table(['file', 'made', 'of', 'size', 'state', 'frozen for', 'warnings'], archives.map(row)));
  for (const { problem } of archives) if (problem !== undefined) printError(problem.message.split('\n')[0] ?? '');
  if (otherFiles > 0) printError(`${otherFiles} other ${otherFiles === 1 ? 'file is' : 'files are'} not listed`);
}

function row({ path, at, of, bytes: size, state, windowMs, warnings }: ListedArchive): (string | number)[] {
  return [
    ...[basename(path), at, targetText(of), bytes(size), state],
    ...[windowMs === undefined ? '-' : milliseconds(windowMs), state === 'whole' ? warnings : '-'],
  ];
}

function targetText(of: ArchivedTarget | undefined): string {
  if (of === undefined) return '-';
  if (of.kind === 'container') return `${of.runtime} container ${of.name}`;
  return of.program === undefined ? `process ${of.pid}` : `${of.program.name} (process ${of.pid})`;
}
