import type { InspectedDescriptor, InspectedProcess } from '../index.js';
import { bytes } from './output.js';
import { table } from './table.js';

/** What `inspect` can show of the processes. */
export interface ProcessViews {
  ps?: boolean | undefined;
  files?: boolean | undefined;
  sockets?: boolean | undefined;
}

/** A table for each view that is asked for. */
export function processesText(processes: readonly InspectedProcess[], { ps, files, sockets }: ProcessViews): string {
  const views: string[] = [];
  if (ps === true) views.push(processTable(processes));
  if (files === true) views.push(descriptorTable(processes, ({ kind }) => !kind.endsWith('socket')));
  if (sockets === true) views.push(socketTable(processes));
  return views.join('\n\n');
}

function processTable(processes: readonly InspectedProcess[]): string {
  const depths = new Map<number, number>();
  return table(
    ['pid', 'ppid', 'state', 'threads', 'mapped', 'dumped', 'command'],
    processes.map(({ pid, ppid, state, threads, memory, name, args }) => {
      const depth = (depths.get(ppid) ?? -1) + 1;
      depths.set(pid, depth);
      const [mapped, dumped] = memory === undefined ? ['', ''] : [bytes(memory.mapped), bytes(memory.dumped)];
      const command = args === undefined || args.length === 0 ? `[${name}]` : args.join(' ');
      return [pid, ppid, state, threads, mapped, dumped, `${'  '.repeat(depth)}${command}`];
    }),
  );
}

function descriptorTable(
  processes: readonly InspectedProcess[],
  isShown: (descriptor: InspectedDescriptor) => boolean,
): string {
  return table(
    ['pid', 'fd', 'kind', 'size', 'position', 'what'],
    processes.flatMap(({ pid, descriptors }) =>
      descriptors
        .filter(isShown)
        .map(({ fd, kind, size, pos, path, pipeId }) => [
          pid,
          fd,
          kind,
          size ?? '',
          pos ?? '',
          path ?? (pipeId === undefined ? '' : `pipe ${pipeId}`),
        ]),
    ),
  );
}

function socketTable(processes: readonly InspectedProcess[]): string {
  return table(
    ['pid', 'fd', 'kind', 'state', 'local', 'remote'],
    processes.flatMap(({ pid, descriptors }) =>
      descriptors
        .filter(({ kind }) => kind.endsWith('socket'))
        .map(({ fd, kind, protocol, state, local, path, remote }) => [
          pid,
          fd,
          protocol ?? kind,
          state ?? '',
          local ?? path ?? '',
          remote ?? '',
        ]),
    ),
  );
}
