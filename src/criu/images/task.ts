import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { core_entry, fdinfo_entry, mm_entry, task_kobj_ids_entry } from '../generated/criu.js';
import { imageEntries, imageEntry, toNumber } from './image-file.js';

const CORE_MAGIC = 0x55053847;
const IDS_MAGIC = 0x54432030;
const MM_MAGIC = 0x57492820;
const FDINFO_MAGIC = 0x56213732;

// compel/include/uapi/task-state.h
const STATES = { 0x01: 'running', 0x02: 'ended', 0x03: 'stopped', 0x06: 'ended' } as const;
// criu/include/image.h: VMA_FILE_PRIVATE, VMA_FILE_SHARED
const MAPS_FILE = (1 << 6) | (1 << 7);

/** A process of the dump, by the images that each has of its own. */
export interface DumpedTask {
  /** What `ps` shows as its command's name; bytes, as Linux has them. */
  name: Buffer;
  /** `ended`: it waits for its parent, and has neither memory nor descriptors. */
  state: 'running' | 'stopped' | 'ended';
  memory: DumpedMemory | undefined;
  descriptors: DumpedDescriptor[];
}

export interface DumpedMemory {
  /** Of `files.img`. */
  exeFileId: number;
  mappedFileIds: number[];
  mappedBytes: number;
  /** Where its arguments are, each ended by a zero byte. */
  argsStart: number;
  argsEnd: number;
}

export interface DumpedDescriptor {
  fd: number;
  /** Of `files.img`. */
  fileId: number;
}

/**
 * Reads `core-<pid>.img`, `ids-<pid>.img`, `mm-<pid>.img` and `fdinfo-<id>.img`.
 * @throws CriuError CRIU_IMAGE when one of them is missing or damaged
 */
export async function readDumpedTask(imagesDir: string, pid: number): Promise<DumpedTask> {
  const path = (image: string): string => join(imagesDir, image);
  const { tc } = await imageEntry(path(`core-${pid}.img`), CORE_MAGIC, (data) => core_entry.decode(data));
  const name = Buffer.from(tc?.comm ?? []);
  const state = STATES[(tc?.taskState ?? 1) as keyof typeof STATES];
  if (state === 'ended') return { name, state, memory: undefined, descriptors: [] };
  const { filesId } = await imageEntry(path(`ids-${pid}.img`), IDS_MAGIC, (data) => task_kobj_ids_entry.decode(data));
  const memory = await imageEntry(path(`mm-${pid}.img`), MM_MAGIC, decodeMemory);
  const descriptors: DumpedDescriptor[] = [];
  const table = path(`fdinfo-${filesId}.img`);
  if (existsSync(table))
    for await (const { id, fd } of imageEntries(table, FDINFO_MAGIC, (data) => fdinfo_entry.decode(data)))
      descriptors.push({ fd, fileId: id });
  return { name, state: state ?? 'running', memory, descriptors };
}

function decodeMemory(data: Uint8Array): DumpedMemory {
  const { exeFileId, vmas, mmArgStart, mmArgEnd } = mm_entry.decode(data);
  const files = vmas.filter(({ status }) => (status & MAPS_FILE) !== 0);
  return {
    exeFileId,
    mappedFileIds: files.map(({ shmid }) => toNumber(shmid)),
    // The kernel's own, of which addresses no number holds exactly, is none of the process's.
    mappedBytes: vmas.reduce((sum, { start, end }) => sum + (isUsers(end) ? toNumber(end) - toNumber(start) : 0), 0),
    argsStart: toNumber(mmArgStart),
    argsEnd: toNumber(mmArgEnd),
  };
}

function isUsers(end: Parameters<typeof toNumber>[0]): boolean {
  return Number(end) <= Number.MAX_SAFE_INTEGER;
}
