import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  ArchiveError,
  printable,
  readMember,
  walkMembers,
  type OpenArchive,
  type TarRange,
} from '../../archive/index.js';
import {
  CriuError,
  readDumpedFiles,
  readDumpedTask,
  readInventory,
  readPagemap,
  readPstree,
  type DumpedFile,
} from '../../criu/index.js';
import type { RestoreFault } from './restorability.js';

/** The images that are looked into; those of memory can be large. */
const READ = /^checkpoint\/((?:inventory|pstree|files|remap-fpath)\.img|(?:core|ids|mm|pagemap|fdinfo)-\d{1,10}\.img)$/;
const PAGES = /^checkpoint\/(pages-\d{1,10}\.img)$/;
/** Larger ones are no image of a task's: `files.img` has some hundred bytes a file. */
const MAX_IMAGE_BYTES = 256 * 1024 * 1024;
/** Of every machine that CRIU runs on, or a part of its pages. */
const PAGE_BYTES = 4096;

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
  const pagesBytes = await copyImages(archive, range, dir, signal);
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
    if (task === undefined || task.hasEnded) continue;
    for (const id of task.fileIds) users.set(id, [...(users.get(id) ?? []), pid]);
    const memory = await readPagemap(dir, pid).catch(note);
    if (memory !== undefined) neededPages.set(memory.file, (neededPages.get(memory.file) ?? 0) + memory.pages);
  }
  // How long compressed pages are, only the pages say.
  if (inventory?.compress === undefined) faults.push(...missingPages(neededPages, pagesBytes));
  return { processes: processes.length, files, users, faults };
}

/** @returns how long the images of memory are, by their names */
async function copyImages(
  archive: OpenArchive,
  range: TarRange,
  dir: string,
  signal: AbortSignal | undefined,
): Promise<Map<string, number>> {
  const pagesBytes = new Map<string, number>();
  for await (const member of walkMembers(archive, range)) {
    signal?.throwIfAborted();
    const { entry } = member;
    if (entry.type !== 'file') continue;
    const name = entry.name.toString('latin1');
    const pages = PAGES.exec(name)?.[1];
    if (pages !== undefined) pagesBytes.set(pages, entry.size);
    const image = READ.exec(name)?.[1];
    if (image === undefined) continue;
    const data = await readMember(archive, member, MAX_IMAGE_BYTES);
    // A name that comes twice is no archive of anybody's.
    await writeFile(join(dir, image), data, { mode: 0o600, flag: 'wx' }).catch((cause: unknown) => {
      throw new ArchiveError('ARCHIVE_DAMAGED', { archivePath: archive.path, member: printable(entry.name), cause });
    });
  }
  return pagesBytes;
}

function missingPages(needed: ReadonlyMap<string, number>, there: ReadonlyMap<string, number>): RestoreFault[] {
  return [...needed].flatMap(([file, pages]) => {
    const recorded = pages * PAGE_BYTES;
    const found = there.get(file) ?? 0;
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
