import { tmpdir } from 'node:os';
import {
  ArchiveError,
  nameOfSource,
  openArchive,
  locateMembers,
  printable,
  type ArchiveSource,
  type Member,
  type OpenArchive,
} from '../../archive/index.js';
import {
  readDumpedTask,
  readInventory,
  readOpenFiles,
  readPagemap,
  readPstree,
  type DumpedProcess,
  type OpenFile,
  type OpenFileKind,
} from '../../criu/index.js';
import type { OptionNames } from '../../bad-option.js';
import { requireSource } from '../base/check-option.js';
import { placesFor, PrivateDir } from '../base/private-dir.js';
import { refuseUnknown } from '../option-names.js';
import { copyImages } from './copy-images.js';
import { readArguments } from './task-arguments.js';

/** A process as it was when it was dumped. All text is printable. Ids are those of its own pid namespace. */
export interface InspectedProcess {
  pid: number;
  /** 0 for the root of the tree. */
  ppid: number;
  pgid: number;
  sid: number;
  threads: number;
  /** As `ps` shows it: 15 bytes at most. */
  name: string;
  /** `ended`: a zombie, without memory or descriptors. */
  state: 'running' | 'stopped' | 'ended';
  /** Its executable's path. */
  exe: string | undefined;
  /** Undefined where this archive does not hold the memory that they are in. */
  args: string[] | undefined;
  /** Bytes. `dumped`: what the archive holds of it; a library's code, for example, is not in it. */
  memory: { mapped: number; dumped: number } | undefined;
  descriptors: InspectedDescriptor[];
}

export interface InspectedDescriptor {
  fd: number;
  kind: OpenFileKind;
  /** A file's, or a unix socket's name; an abstract one begins with `@`. */
  path?: string;
  /** Of a file, in bytes. */
  size?: number;
  pos?: number;
  /** Both ends of a pipe have the same. */
  pipeId?: number;
  /** Of sockets. */
  protocol?: string;
  state?: string;
  local?: string;
  remote?: string;
}

export interface InspectProcessesOptions {
  /** How errors name the archive. Default: its path, or what it is. */
  archiveName?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Where a compressed archive is unpacked to, and a stream is kept. Default: the system's temporary directory. */
  tmpDir?: string | undefined;
  /** As in `VerifyOptions`. */
  maxUnpackedBytes?: number | undefined;
}

const OPTIONS: OptionNames<InspectProcessesOptions> = {
  archiveName: true,
  signal: true,
  tmpDir: true,
  maxUnpackedBytes: true,
};

/**
 * What was running: the processes of a checkpoint, parents before children, with their arguments, memory, open files
 * and sockets, by CRIU's images. Reads archives of Podman, CRI-O and containerd as well as our own. Nothing is
 * verified; see `verify`. Memory is not read but for the arguments.
 * @throws ArchiveError MEMBER_MISSING for an archive without CRIU's images, and those of `inspect`; CriuError
 *   CRIU_IMAGE; CheckpointError BAD_OPTION
 */
export async function inspectProcesses(
  source: ArchiveSource,
  options: InspectProcessesOptions = {},
): Promise<InspectedProcess[]> {
  requireSource('source', source);
  refuseUnknown(options, OPTIONS);
  const { archiveName, signal, tmpDir, maxUnpackedBytes } = options;
  const name = archiveName ?? nameOfSource(source);
  await using archive = await openArchive(source, { name, tmpDir, maxUnpackedBytes, signal });
  const images = (await locateMembers(archive, signal)).get('checkpoint');
  if (images === undefined)
    throw new ArchiveError('MEMBER_MISSING', { archivePath: archive.path, member: 'checkpoint' });
  await using dir = await PrivateDir.make(placesFor(tmpDir ?? tmpdir()));
  const pages = await copyImages(archive, { start: images.headerOffset, end: images.end }, dir.path, signal);
  const { compress } = await readInventory(dir.path);
  const files = await readOpenFiles(dir.path);
  const processes: InspectedProcess[] = [];
  for (const process of await readPstree(dir.path)) {
    signal?.throwIfAborted();
    processes.push(
      await lookAt(process, { archive, dir: dir.path, files, pages: compress === undefined ? pages : NONE }),
    );
  }
  return processes;
}

const NONE: ReadonlyMap<string, Member> = new Map();

interface Images {
  archive: OpenArchive;
  dir: string;
  files: ReadonlyMap<number, OpenFile>;
  pages: ReadonlyMap<string, Member>;
}

async function lookAt(
  { pid, ppid, pgid, sid, threads }: DumpedProcess,
  { archive, dir, files, pages }: Images,
): Promise<InspectedProcess> {
  const { name, state, memory, descriptors } = await readDumpedTask(dir, pid);
  const exe = memory === undefined ? undefined : files.get(memory.exeFileId)?.path;
  return {
    ...{ pid, ppid, pgid, sid, threads: threads.length, state },
    name: printable(withoutZeros(name)),
    exe: exe === undefined ? undefined : printable(exe),
    args: memory === undefined ? undefined : await readArguments(archive, pages, dir, pid, memory),
    memory:
      memory === undefined
        ? undefined
        : { mapped: memory.mappedBytes, dumped: (await readPagemap(dir, pid)).pages * 4096 },
    descriptors: descriptors.map(({ fd, fileId }) => ({ fd, ...shown(files.get(fileId)) })),
  };
}

function shown(file: OpenFile | undefined): Omit<InspectedDescriptor, 'fd'> {
  if (file === undefined) return { kind: 'unknown' };
  const { path, ...rest } = file;
  if (path === undefined) return rest;
  // As ss(8) and /proc/net/unix show an abstract name.
  return { ...rest, path: path[0] === 0 ? `@${printable(path.subarray(1))}` : printable(path) };
}

function withoutZeros(name: Buffer): Buffer {
  const end = name.indexOf(0);
  return end === -1 ? name : name.subarray(0, end);
}
