import { writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { errnoOf } from '../../errors.js';
import { inspect, inspectImages, verify, type InspectedImages, type InspectOptions } from '../../index.js';
import { checkpointCommand } from '../commands/checkpoint.js';
import { refuseBeside } from '../container-options.js';
import { inFlags } from '../flags.js';
import { inspectionText, JsonView, TextView } from '../inspection-view.js';
import { json } from '../output.js';
import { imagesText, type ImageViews } from '../processes-text.js';
import { archiveOf } from '../standard-input.js';
import { inspectMemoryAction, type MemoryFlags } from './inspect-memory.js';
import { verificationText } from '../verification-text.js';
import { LongOutput, print, ReaderGone } from '../streams.js';

/** What commander hands over. */
export interface ReadFlags {
  maxUnpackedBytes?: number;
  json?: boolean;
}

/** The flags that show something of the images, which `all` stands for together. */
const VIEWS = [
  'ps',
  'files',
  'sockets',
  'maps',
  'env',
  'mounts',
  'cgroup',
  'stats',
] as const satisfies (keyof ImageViews)[];

export interface InspectFlags extends ReadFlags, ImageViews, MemoryFlags {
  members?: boolean;
  all?: boolean;
  pid?: number;
  html?: string;
}

export async function inspectAction(argument: string, options: InspectFlags, signal: AbortSignal): Promise<void> {
  const { mem, search, regex, hexdump } = options;
  if ([mem, search, regex, hexdump].some((one) => one !== undefined)) {
    refuseBeside('--mem', options, [...VIEWS, 'all', 'pid', 'members', 'html']);
    return inspectMemoryAction(argument, options, signal);
  }
  if (options.html !== undefined) return reportAction(argument, options, options.html, signal);
  if (options.all === true || VIEWS.some((view) => options[view] === true))
    return inspectImagesAction(argument, options, signal);
  refuseBeside('an inspection without --ps or another view of processes', options, ['pid']);
  await using source = await archiveOf(argument);
  const { maxUnpackedBytes, json: asJson = false, members: listMembers = false } = options;
  const { archiveName } = source;
  const output = new LongOutput();
  const view = asJson ? new JsonView() : new TextView(listMembers, checkpointCommand(signal));
  const onMember: InspectOptions['onMember'] = (member) => output.add(view.member(member));
  try {
    const inspection = await inspect(source.archive, { archiveName, signal, maxUnpackedBytes, onMember });
    await output.add(view.end(inspection));
    await output.flush();
  } catch (error) {
    if (!(error instanceof ReaderGone)) throw error;
  }
}

async function inspectImagesAction(argument: string, options: InspectFlags, signal: AbortSignal): Promise<void> {
  refuseBeside('--ps, --files or another view of the images', options, ['members']);
  const views: ImageViews = options.all === true ? Object.fromEntries(VIEWS.map((view) => [view, true])) : options;
  await using source = await archiveOf(argument);
  const { maxUnpackedBytes } = options;
  const { archiveName } = source;
  const { env, maps, mounts, cgroup: cgroups, stats: statistics } = views;
  const images = await inspectImages(source.archive, {
    ...{ archiveName, signal, maxUnpackedBytes, env, maps, mounts, cgroups, statistics, summary: options.all },
  });
  const shown = options.pid === undefined ? images : { ...images, processes: subtree(images, options.pid, argument) };
  if (options.json === true) return print(json(shown));
  const summary = images.archive === undefined ? [] : [inspectionText(images.archive, checkpointCommand(signal))];
  print([...summary, imagesText(shown, views)].join('\n\n'));
}

/** `inspect --html`: all but environments, which may hold passwords, and go into the page only with `--env`. */
async function reportAction(
  argument: string,
  options: InspectFlags,
  output: string,
  signal: AbortSignal,
): Promise<void> {
  refuseBeside('--html', options, ['members', 'json', 'all', 'pid', ...VIEWS.filter((view) => view !== 'env')]);
  await using source = await archiveOf(argument);
  const { maxUnpackedBytes, env } = options;
  const { archiveName } = source;
  const everything = { maps: true, cgroups: true, statistics: true, summary: true, files: true };
  const images = await inspectImages(source.archive, { archiveName, signal, maxUnpackedBytes, env, ...everything });
  const { reportPage } = await import('../report/page.js');
  const title = argument === '-' ? 'standard input' : basename(argument);
  const page = reportPage(images, title, (remedy) => inFlags(remedy, checkpointCommand(signal)));
  if (output === '-') return void process.stdout.write(page);
  await writeNewFile(output, page);
}

/** It says what was in a program's memory: for its owner alone. */
async function writeNewFile(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
    throw new InvalidArgumentError(`${path} is there already. Name a new file, or remove it.`);
  }
}

/** A process and those below it: parents come before children. */
function subtree({ processes }: InspectedImages, root: number, archive: string): InspectedImages['processes'] {
  const pids = new Set([root]);
  const found = processes.filter(({ pid, ppid }) => {
    if (pid === root || pids.has(ppid)) pids.add(pid);
    return pids.has(pid);
  });
  if (found.length === 0)
    throw new InvalidArgumentError(
      `${archive} has no process ${root}; it has ${processes
        .map(({ pid }) => pid)
        .slice(0, 20)
        .join(', ')}.`,
    );
  return found;
}

export async function verifyAction(argument: string, options: ReadFlags, signal: AbortSignal): Promise<void> {
  await using source = await archiveOf(argument);
  const { maxUnpackedBytes } = options;
  const { archiveName } = source;
  const verified = await verify(source.archive, { archiveName, signal, maxUnpackedBytes });
  const { archivePath, members, bytes: size, foreign, restorable } = verified;
  print(
    options.json === true
      ? json({ archivePath, members, bytes: size, ...(foreign === undefined ? {} : { foreign }), restorable })
      : verificationText(verified),
  );
  if (restorable.faults.length > 0) process.exitCode = 1;
}
