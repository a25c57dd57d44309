import { basename } from 'node:path';
import type { Member, OpenArchive, TarRange } from '../../archive/index.js';
import {
  CriuError,
  readDumpedFiles,
  readDumpedTask,
  readInventory,
  readPagemap,
  readPstree,
  type DumpedFile,
} from '../../criu/index.js';
import { copyImages } from '../dumped/copy-images.js';
import { PAGE_BYTES } from '../dumped/page.js';
import type { RestoreFault } from './restorability.js';

export interface DumpedImages {
  processes: number;
  files: DumpedFile[];
  /** By the ids of `files`. */
  users: Map<number, number[]>;
  faults: RestoreFault[];
}

/**
 * Reads what CRIU's images say of processes and files, and whether all of them are there.
 * @param dir A private and empty directory, for copies of the small ones.
 */
export async function readImages(
  archive: OpenArchive,
  range: TarRange,
  dir: string,
  signal: AbortSignal | undefined,
): Promise<DumpedImages> {
  const faults: RestoreFault[] = [];
  const pagesMembers = await copyImages(archive, range, dir, signal);
  const note = (error: unknown): void => {
    if (!(error instanceof CriuError) || error.code !== 'CRIU_IMAGE') throw error;
    faults.push(imageFault(error, dir));
  };
  const inventory = await readInventory(dir).catch(note);
  const processes = (await readPstree(dir).catch(note)) ?? [];
  const files = (await readDumpedFiles(dir).catch(note)) ?? [];
  const users = new Map<number, number[]>();
  const neededPages = new Map<string, number>();
  for (const { pid } of processes) {
    signal?.throwIfAborted();
    const task = await readDumpedTask(dir, pid).catch(note);
    if (task?.memory === undefined) continue;
    const { exeFileId, mappedFileIds } = task.memory;
    const used = new Set([exeFileId, ...mappedFileIds, ...task.descriptors.map(({ fileId }) => fileId)]);
    for (const id of used) users.set(id, [...(users.get(id) ?? []), pid]);
    const memory = await readPagemap(dir, pid).catch(note);
    if (memory !== undefined) neededPages.set(memory.file, (neededPages.get(memory.file) ?? 0) + memory.pages);
  }
  // How long compressed pages are, only the pages say.
  if (inventory?.compress === undefined) faults.push(...missingPages(neededPages, pagesMembers));
  return { processes: processes.length, files, users, faults };
}

function missingPages(needed: ReadonlyMap<string, number>, there: ReadonlyMap<string, Member>): RestoreFault[] {
  return [...needed].flatMap(([file, pages]) => {
    const recorded = pages * PAGE_BYTES;
    const found = there.get(file)?.entry.size ?? 0;
    if (found >= recorded) return [];
    const member = `checkpoint/${file}`;
    const what = `${member}: ${found} bytes of memory where at least ${recorded} are recorded`;
    return [{ kind: 'pages' as const, member, recorded, found, message: what }];
  });
}

function imageFault(error: CriuError, dir: string): RestoreFault {
  const { path } = error.facts as { path?: string };
  const member = `checkpoint/${basename(path ?? '')}`;
  return { kind: 'image', member, message: error.message.replaceAll(`${dir}/`, 'checkpoint/') };
}
