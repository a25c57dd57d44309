import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { core_entry, fdinfo_entry, mm_entry, task_kobj_ids_entry } from '../generated/criu.js';
import { imageEntries, imageEntry, toNumber } from './image-file.js';

const CORE_MAGIC = 0x55053847;
const IDS_MAGIC = 0x54432030;
const MM_MAGIC = 0x57492820;
const FDINFO_MAGIC = 0x56213732;

// compel/include/uapi/task-state.h
const WITHOUT_MEMORY: readonly number[] = [0x02, 0x06];
// criu/include/image.h: VMA_FILE_PRIVATE, VMA_FILE_SHARED
const MAPS_FILE = (1 << 6) | (1 << 7);

/** What a process of the dump uses of its files. */
export interface DumpedTask {
  /** It had ended already, and waited for its parent: there are no images of memory and descriptors. */
  hasEnded: boolean;
  /** Ids of `files.img`: its descriptors, executable and mapped files. */
  fileIds: number[];
}

/**
 * Reads the images that every process of a dump has: `core-<pid>.img`, `ids-<pid>.img`, `mm-<pid>.img` and
 * `fdinfo-<id>.img`.
 * @throws CriuError CRIU_IMAGE when one of them is missing or damaged
 */
export async function readDumpedTask(imagesDir: string, pid: number): Promise<DumpedTask> {
  const path = (image: string): string => join(imagesDir, image);
  const { tc } = await imageEntry(path(`core-${pid}.img`), CORE_MAGIC, (data) => core_entry.decode(data));
  if (tc != null && WITHOUT_MEMORY.includes(tc.taskState)) return { hasEnded: true, fileIds: [] };
  const { filesId } = await imageEntry(path(`ids-${pid}.img`), IDS_MAGIC, (data) => task_kobj_ids_entry.decode(data));
  const ids = new Set(await imageEntry(path(`mm-${pid}.img`), MM_MAGIC, fileIdsOfMemory));
  const descriptors = path(`fdinfo-${filesId}.img`);
  if (existsSync(descriptors))
    for await (const { id } of imageEntries(descriptors, FDINFO_MAGIC, (data) => fdinfo_entry.decode(data)))
      ids.add(id);
  return { hasEnded: false, fileIds: [...ids] };
}

function fileIdsOfMemory(data: Uint8Array): number[] {
  const { exeFileId, vmas } = mm_entry.decode(data);
  return [exeFileId, ...vmas.filter(({ status }) => (status & MAPS_FILE) !== 0).map(({ shmid }) => toNumber(shmid))];
}
