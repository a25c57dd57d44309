import { join } from 'node:path';
import { mnt_entry } from '../generated/criu.js';
import { imageEntries } from './image-file.js';

const MNTS_MAGIC = 0x55563928;
// images/mnt.proto, fstype, CRIU v4.2. 0 and 16 name none: `fsname` does.
const TYPES: Readonly<Record<number, string>> = {
  1: 'proc',
  2: 'sysfs',
  3: 'devtmpfs',
  4: 'binfmt_misc',
  5: 'tmpfs',
  6: 'devpts',
  7: 'simfs',
  8: 'pstore',
  9: 'securityfs',
  10: 'fusectl',
  11: 'debugfs',
  12: 'cgroup',
  13: 'aufs',
  14: 'mqueue',
  15: 'fuse',
  17: 'overlay',
  18: 'autofs',
  19: 'tracefs',
  23: 'cgroup2',
};

/** A mount of the dump. Paths and texts are bytes, as Linux has them. */
export interface DumpedMount {
  id: number;
  /** Of the one that it is mounted on; that of the root is in no image. */
  parentId: number;
  /** The file system; undefined where CRIU knows no name for it. */
  type: string | undefined;
  /** As the processes saw it. */
  mountPoint: Buffer;
  /** What is mounted, and which directory of it. */
  source: Buffer;
  root: Buffer;
  options: Buffer;
  /** Comes from outside on restore: a bind mount of a container, for example. */
  external: boolean;
}

/**
 * Reads `mountpoints-<id>.img`, of a mount namespace's id.
 * @throws CriuError CRIU_IMAGE
 */
export async function readMounts(imagesDir: string, namespaceId: number): Promise<DumpedMount[]> {
  const mounts: DumpedMount[] = [];
  const path = join(imagesDir, `mountpoints-${namespaceId}.img`);
  for await (const mount of imageEntries(path, MNTS_MAGIC, decodeMount)) mounts.push(mount);
  return mounts;
}

function decodeMount(data: Uint8Array): DumpedMount {
  const { mntId, parentMntId, fstype, fsname, mountpoint, source, root, options, extMount, extKey } =
    mnt_entry.decode(data);
  return {
    id: mntId,
    parentId: parentMntId,
    type: TYPES[fstype] ?? (fsname == null || fsname.length === 0 ? undefined : Buffer.from(fsname).toString('latin1')),
    mountPoint: Buffer.from(mountpoint),
    source: Buffer.from(source),
    root: Buffer.from(root),
    options: Buffer.from(options),
    external: extMount === true || (extKey != null && extKey.length > 0),
  };
}
