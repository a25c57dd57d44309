import { constants, existsSync } from 'node:fs';
import { join } from 'node:path';
import { file_entry, remap_file_path_entry, remap_type } from '../generated/criu.js';
import { present } from '../rpc/messages.js';
import { imageEntries, toNumber } from './image-file.js';
import { filled } from '../rpc/option-values.js';

export const FILES_MAGIC = 0x56303138;
const REMAP_FPATH_MAGIC = 0x59133954;
const REG = 1;

/** A file, directory or device that the tree had open, mapped, or as its executable, working or root directory. */
export interface DumpedFile {
  id: number;
  /** The path as the task's mount namespace had it; bytes, as Linux paths are. */
  path: Buffer;
  /** open(2)'s flags. */
  flags: number;
  /** The position of reads and writes, in bytes. */
  pos: number;
  mountId?: number;
  /** In bytes. The restore refuses a regular file of another size. Absent where it does not compare. */
  size?: number;
  /** st_mode: kind and permission bits. */
  mode?: number;
  /** Comes from the caller on restore (`external`). */
  external: boolean;
  /**
   * The path was gone already: the images hold the file (ghost), a link to it was made beside it (linked), or it is of
   * a dead process's /proc (procfs).
   */
  remap?: 'ghost' | 'linked' | 'procfs';
}

/**
 * Reads `files.img` and `remap-fpath.img`: everything opened by a path.
 * @throws CriuError CRIU_IMAGE
 */
export async function readDumpedFiles(imagesDir: string): Promise<DumpedFile[]> {
  filled('imagesDir', imagesDir);
  const remaps = await readRemaps(imagesDir);
  const files: DumpedFile[] = [];
  for await (const file of imageEntries(join(imagesDir, 'files.img'), FILES_MAGIC, decodeFile)) {
    if (file === undefined) continue;
    files.push({ ...file, ...present({ remap: remaps.get(file.id) }) });
  }
  return files;
}

/** Undefined for what is not opened by a path. */
function decodeFile(data: Uint8Array): DumpedFile | undefined {
  const { type, reg } = file_entry.decode(data);
  if (type !== REG || reg == null) return undefined;
  const { id, name, flags, pos, mntId, size, ext, mode } = reg;
  return {
    id,
    path: Buffer.from(name),
    flags,
    pos: toNumber(pos),
    external: ext ?? false,
    ...present({
      mountId: mntId == null || mntId < 0 ? undefined : mntId,
      size: size == null ? undefined : toNumber(size),
      mode,
    }),
  };
}

/** As far as the images say: those of old versions have no mode. */
export function mayBeRegular({ mode }: Pick<DumpedFile, 'mode'>): boolean {
  return mode === undefined || (mode & constants.S_IFMT) === constants.S_IFREG;
}

const remapNames = {
  [remap_type.GHOST]: 'ghost',
  [remap_type.LINKED]: 'linked',
  [remap_type.PROCFS]: 'procfs',
} as const;

async function readRemaps(imagesDir: string): Promise<Map<number, NonNullable<DumpedFile['remap']>>> {
  const remaps = new Map<number, NonNullable<DumpedFile['remap']>>();
  const path = join(imagesDir, 'remap-fpath.img');
  if (!existsSync(path)) return remaps;
  for await (const { origId, remapType } of imageEntries(path, REMAP_FPATH_MAGIC, (data) =>
    remap_file_path_entry.decode(data),
  )) {
    remaps.set(origId, remapNames[remapType ?? remap_type.GHOST]);
  }
  return remaps;
}
