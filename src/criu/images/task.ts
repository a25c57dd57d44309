import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { core_entry, fdinfo_entry, fs_entry, task_kobj_ids_entry } from '../generated/criu.js';
import { present } from '../rpc/messages.js';
import { imageEntries, imageEntry } from './image-file.js';
import { decodeMemory, type DumpedMemory } from './memory.js';

const CORE_MAGIC = 0x55053847;
const IDS_MAGIC = 0x54432030;
const MM_MAGIC = 0x57492820;
const FDINFO_MAGIC = 0x56213732;
const FS_MAGIC = 0x51403912;

// compel/include/uapi/task-state.h
const STATES = { 0x01: 'running', 0x02: 'ended', 0x03: 'stopped', 0x06: 'ended' } as const;
/** A process of the dump, by the images that each has of its own. */
export interface DumpedTask {
  /** What `ps` shows as its command's name; bytes, as Linux has them. */
  name: Buffer;
  /** `ended`: it waits for its parent, and has neither memory nor descriptors. */
  state: 'running' | 'stopped' | 'ended';
  memory: DumpedMemory | undefined;
  descriptors: DumpedDescriptor[];
  /** Real and effective ids, as in its own user namespace's parent. */
  credentials?: { uid: number; gid: number; euid: number; egid: number };
  /** Its working and root directories, of `files.img`. */
  cwdId?: number;
  rootId?: number;
  /** Of `cgroup.img`: the cgroups that it is in. */
  cgroupSetId?: number;
  /** Of `mountpoints-<id>.img`; undefined where the mount namespace was not dumped. */
  mountNamespaceId?: number;
}

export interface DumpedDescriptor {
  fd: number;
  /** Of `files.img`. */
  fileId: number;
}

/**
 * Reads `core-<pid>.img`, `ids-<pid>.img`, `mm-<pid>.img`, `fs-<pid>.img` and `fdinfo-<id>.img`.
 * @throws CriuError CRIU_IMAGE when one of them is missing or damaged
 */
export async function readDumpedTask(imagesDir: string, pid: number): Promise<DumpedTask> {
  const path = (image: string): string => join(imagesDir, image);
  const { tc, threadCore } = await imageEntry(path(`core-${pid}.img`), CORE_MAGIC, (data) => core_entry.decode(data));
  const name = Buffer.from(tc?.comm ?? []);
  const state = STATES[(tc?.taskState ?? 1) as keyof typeof STATES];
  if (state === 'ended') return { name, state, memory: undefined, descriptors: [] };
  const { filesId, mntNsId } = await imageEntry(path(`ids-${pid}.img`), IDS_MAGIC, (data) =>
    task_kobj_ids_entry.decode(data),
  );
  const memory = await imageEntry(path(`mm-${pid}.img`), MM_MAGIC, decodeMemory);
  const { cwdId, rootId } = await imageEntry(path(`fs-${pid}.img`), FS_MAGIC, (data) => fs_entry.decode(data));
  const descriptors: DumpedDescriptor[] = [];
  const table = path(`fdinfo-${filesId}.img`);
  if (existsSync(table))
    for await (const { id, fd } of imageEntries(table, FDINFO_MAGIC, (data) => fdinfo_entry.decode(data)))
      descriptors.push({ fd, fileId: id });
  const { creds } = threadCore ?? {};
  return {
    name,
    state: state ?? 'running',
    memory,
    descriptors,
    cwdId,
    rootId,
    ...present({
      credentials: creds == null ? undefined : { uid: creds.uid, gid: creds.gid, euid: creds.euid, egid: creds.egid },
      cgroupSetId: threadCore?.cgSet ?? tc?.cgSet,
      mountNamespaceId: mntNsId,
    }),
  };
}
