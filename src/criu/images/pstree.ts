import { join } from 'node:path';
import { pstree_entry } from '../generated/criu.js';
import { imageEntries } from './image-file.js';
import { filled } from '../rpc/option-values.js';

const PSTREE_MAGIC = 0x50273030;

/** A process of the dump, with ids of its own pid namespace. */
export interface DumpedProcess {
  pid: number;
  /** 0 for the root of the tree. */
  ppid: number;
  pgid: number;
  sid: number;
  /** Thread ids, the first being the pid. May be empty for a zombie. */
  threads: number[];
}

/**
 * Reads `pstree.img`: the processes, parents before children. Their pids, pgids and sids must be free on restore.
 * @throws CriuError CRIU_IMAGE
 */
export async function readPstree(imagesDir: string): Promise<DumpedProcess[]> {
  filled('imagesDir', imagesDir);
  const processes: DumpedProcess[] = [];
  for await (const { pid, ppid, pgid, sid, threads } of imageEntries(
    join(imagesDir, 'pstree.img'),
    PSTREE_MAGIC,
    (data) => pstree_entry.decode(data),
  )) {
    // Of a zombie CRIU writes the first one without having set it, and nobody's restore looks at it: it is the pid.
    // Source: CRIU v4.2, criu/seize.c, collect_threads; criu/pstree.c, dump_pstree and read_one_pstree_item.
    processes.push({ pid, ppid, pgid, sid, threads: threads.length === 0 ? [] : [pid, ...threads.slice(1)] });
  }
  return processes;
}
