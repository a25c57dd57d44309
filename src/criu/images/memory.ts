import { mm_entry, type vma_entry } from '../generated/criu.js';
import { toNumber } from './image-file.js';

// criu/include/image.h, CRIU v4.2.
const FILE_PRIVATE = 1 << 6;
const FILE_SHARED = 1 << 7;
const MAPS_FILE = FILE_PRIVATE | FILE_SHARED;
const ANON_SHARED = 1 << 8;
const SYSVIPC = 1 << 10;
/** The first that matches. */
const KINDS = [
  [1 << 2, 'vsyscall'],
  [1 << 3, 'vdso'],
  [1 << 12, 'vvar'],
  [1 << 13, 'aio ring'],
  [1 << 11, 'socket'],
  [1 << 16, 'guard'],
  [1 << 17, 'uprobes'],
  [1 << 14, 'memfd'],
  [SYSVIPC, 'sysv shared'],
  [FILE_SHARED, 'file shared'],
  [FILE_PRIVATE, 'file'],
  [ANON_SHARED, 'shared'],
  [1 << 5, 'heap'],
  [1 << 1, 'stack'],
  [1 << 15, 'shadow stack'],
] as const;

export type MappingKind = (typeof KINDS)[number][1] | 'anonymous';

// mmap(2)
const [PROT_READ, PROT_WRITE, PROT_EXEC] = [1, 2, 4];

/** A part of a process's address space. */
export interface DumpedMapping {
  /** Addresses, in bytes: from the first to before `end`. */
  start: number;
  end: number;
  kind: MappingKind;
  /** As /proc/PID/maps shows it: `rwxp`, or with `s` at the end where it is shared. */
  protection: string;
  /** Of `files.img`, for a mapping of a file. */
  fileId?: number;
  /** Of shared memory: whose pages they are; `pagemap-shmem-<id>.img` lists them. */
  sharedId?: number;
  /** Where in the file or the shared memory it begins, in bytes. */
  offset: number;
}

export interface DumpedMemory {
  /** Of `files.img`. */
  exeFileId: number;
  mappedFileIds: number[];
  mappedBytes: number;
  /** Where its arguments are, each ended by a zero byte. */
  argsStart: number;
  argsEnd: number;
  /** The same of its environment, as it was at its start. */
  envStart: number;
  envEnd: number;
  /** By their addresses. Without the kernel's own above all addresses of processes (vsyscall). */
  mappings: DumpedMapping[];
}

/** An entry of `mm-<pid>.img`. */
export function decodeMemory(data: Uint8Array): DumpedMemory {
  const { exeFileId, vmas, mmArgStart, mmArgEnd, mmEnvStart, mmEnvEnd } = mm_entry.decode(data);
  // No number holds those addresses exactly, and they are none of the process's.
  const mappings = vmas.filter(({ end }) => Number(end) <= Number.MAX_SAFE_INTEGER).map(mappingOf);
  return {
    exeFileId,
    mappedFileIds: mappings.flatMap(({ fileId }) => fileId ?? []),
    mappedBytes: mappings.reduce((sum, { start, end }) => sum + (end - start), 0),
    argsStart: toNumber(mmArgStart),
    argsEnd: toNumber(mmArgEnd),
    envStart: toNumber(mmEnvStart),
    envEnd: toNumber(mmEnvEnd),
    mappings,
  };
}

function mappingOf({ start, end, pgoff, shmid, prot, status }: vma_entry): DumpedMapping {
  const [kind = 'anonymous'] = KINDS.filter(([bit]) => (status & bit) !== 0).map(([, name]) => name);
  const isShared = (status & (FILE_SHARED | ANON_SHARED | SYSVIPC)) !== 0;
  const letters = [prot & PROT_READ ? 'r' : '-', prot & PROT_WRITE ? 'w' : '-', prot & PROT_EXEC ? 'x' : '-'];
  return {
    start: toNumber(start),
    end: toNumber(end),
    kind,
    protection: `${letters.join('')}${isShared ? 's' : 'p'}`,
    ...((status & MAPS_FILE) !== 0 ? { fileId: toNumber(shmid) } : {}),
    ...((status & MAPS_FILE) === 0 && (status & (ANON_SHARED | SYSVIPC)) !== 0 ? { sharedId: toNumber(shmid) } : {}),
    offset: toNumber(pgoff),
  };
}
