import type { InspectedDescriptor, InspectedImages, InspectedProcess } from '../index.js';
import { bytes, facts } from './output.js';
import { mountsText, cgroupsText } from './surroundings-text.js';
import { table } from './table.js';

/** What `inspect` can show of a checkpoint's images. */
export interface ImageViews {
  ps?: boolean | undefined;
  files?: boolean | undefined;
  sockets?: boolean | undefined;
  env?: boolean | undefined;
  maps?: boolean | undefined;
  mounts?: boolean | undefined;
  cgroup?: boolean | undefined;
  stats?: boolean | undefined;
}

/** A table for each view that is asked for. */
export function imagesText(images: InspectedImages, views: ImageViews): string {
  const { processes } = images;
  const texts: string[] = [];
  if (views.ps === true) texts.push(processTable(processes));
  if (views.files === true)
    texts.push(
      directoryTable(processes),
      descriptorTable(processes, (kind) => !isSocket(kind)),
    );
  if (views.sockets === true) texts.push(socketTable(processes));
  if (views.maps === true) texts.push(mappingTable(processes));
  if (views.env === true) texts.push(environmentTable(processes));
  if (views.mounts === true) texts.push(mountsText(images));
  if (views.cgroup === true) texts.push(cgroupsText(images));
  if (views.stats === true) texts.push(statisticsText(images));
  return texts.join('\n\n');
}

function processTable(processes: readonly InspectedProcess[]): string {
  const depths = new Map<number, number>();
  return table(
    ['pid', 'ppid', 'user', 'state', 'threads', 'mapped', 'dumped', 'command'],
    processes.map(({ pid, ppid, user, state, threads, memory, name, args }) => {
      const depth = (depths.get(ppid) ?? -1) + 1;
      depths.set(pid, depth);
      const [mapped, dumped] = memory === undefined ? ['', ''] : [bytes(memory.mapped), bytes(memory.dumped)];
      const command = args === undefined || args.length === 0 ? `[${name}]` : args.join(' ');
      return [pid, ppid, user?.euid ?? '', state, threads, mapped, dumped, `${'  '.repeat(depth)}${command}`];
    }),
  );
}

function directoryTable(processes: readonly InspectedProcess[]): string {
  return table(
    ['pid', 'executable', 'working directory', 'root'],
    processes
      .filter(({ state }) => state !== 'ended')
      .map(({ pid, exe, cwd, root }) => [pid, exe ?? '', cwd ?? '', root ?? '']),
  );
}

const isSocket = (kind: InspectedDescriptor['kind']): boolean => kind.endsWith('socket');

function descriptorTable(
  processes: readonly InspectedProcess[],
  isShown: (kind: InspectedDescriptor['kind']) => boolean,
): string {
  return table(
    ['pid', 'fd', 'kind', 'size', 'position', 'what'],
    processes.flatMap(({ pid, descriptors }) =>
      descriptors
        .filter(({ kind }) => isShown(kind))
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
        .filter(({ kind }) => isSocket(kind))
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

function mappingTable(processes: readonly InspectedProcess[]): string {
  return table(
    ['pid', 'addresses', 'protection', 'kind', 'bytes', 'dumped', 'in parent', 'file'],
    processes.flatMap(({ pid, mappings = [] }) =>
      mappings.map(({ start, end, protection, kind, bytes: size, dumped, inParent, path }) => [
        ...[pid, `${start}-${end}`, protection, kind, size, dumped, inParent],
        path ?? '',
      ]),
    ),
  );
}

function environmentTable(processes: readonly InspectedProcess[]): string {
  return table(
    ['pid', 'environment'],
    processes
      .filter(({ state }) => state !== 'ended')
      .flatMap(({ pid, env }) => (env ?? ['(this archive does not hold its pages)']).map((one) => [pid, one])),
  );
}

function statisticsText({ statistics }: InspectedImages): string {
  if (statistics === undefined) return "CRIU's statistics: none in this archive";
  const ms = (us: number): string => `${(us / 1000).toFixed(1)} ms`;
  return facts([
    ["CRIU's freezing", ms(statistics.freezingTimeUs)],
    ['frozen', ms(statistics.frozenTimeUs)],
    ['memory taken', ms(statistics.memdumpTimeUs)],
    ['memory written', ms(statistics.memwriteTimeUs)],
    ['pages scanned', statistics.pagesScanned],
    ['pages of a parent', statistics.pagesSkippedParent],
    ['pages written', statistics.pagesWritten],
    ['pages left lazy', statistics.pagesLazy],
    ...(statistics.shmemPagesWritten === undefined
      ? []
      : [['shared pages written', statistics.shmemPagesWritten] as const]),
  ]);
}
