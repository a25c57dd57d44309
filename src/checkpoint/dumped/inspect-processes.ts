import { inspectArchive, printable, type ArchiveSource } from '../../archive/index.js';
import {
  readCgroups,
  readDumpedTask,
  readOpenFiles,
  readPagemap,
  readPstree,
  type DumpedCgroups,
  type DumpedMapping,
  type DumpedProcess,
  type OpenFile,
} from '../../criu/index.js';
import type { OptionNames } from '../../bad-option.js';
import { archivedTrees } from './archived-files.js';
import { InspectionReader, type ArchiveInspection } from '../inspection.js';
import { refuseUnknown } from '../option-names.js';
import type { InspectedDescriptor, InspectedImages, InspectedMapping, InspectedProcess } from './inspected.js';
import { inspectCgroups, inspectMounts, inspectStatistics, membershipsOf } from './inspect-surroundings.js';
import { mappingSizes } from './mapping-sizes.js';
import { READING_OPTIONS, withImages, type DumpedImagesOf, type InspectProcessesOptions } from './open-images.js';
import { PAGE_BYTES } from './page.js';
import { readStrings } from './strings.js';

/** What to look for besides the processes: each costs the reading of further images. Default: none of it. */
export interface InspectImagesOptions extends InspectProcessesOptions {
  /** Each process's environment. It often holds passwords. */
  env?: boolean | undefined;
  /** Each process's mappings, with their sizes. */
  maps?: boolean | undefined;
  mounts?: boolean | undefined;
  cgroups?: boolean | undefined;
  statistics?: boolean | undefined;
  /** What `inspect` says of the archive, too. */
  summary?: boolean | undefined;
  /** The archive's file trees, with sizes. */
  files?: boolean | undefined;
}

const OPTIONS: OptionNames<InspectImagesOptions> = {
  ...READING_OPTIONS,
  env: true,
  maps: true,
  mounts: true,
  cgroups: true,
  statistics: true,
  summary: true,
  files: true,
};

/**
 * What was running: the processes of a checkpoint, parents before children, with their arguments, memory, open files
 * and sockets, by CRIU's images. Reads archives of Podman, CRI-O and containerd as well as our own. Nothing is
 * verified; see `verify`. Memory is not read but for the arguments.
 * @throws ArchiveError MEMBER_MISSING for an archive without CRIU's images, or without one of them; ARCHIVE_DAMAGED
 *   with the image that is damaged; and those of `inspect`; CheckpointError BAD_OPTION
 */
export async function inspectProcesses(
  source: ArchiveSource,
  options: InspectProcessesOptions = {},
): Promise<InspectedProcess[]> {
  refuseUnknown(options, READING_OPTIONS);
  return (await inspectImages(source, options)).processes;
}

/**
 * The same, with what the options ask for besides.
 * @throws as `inspectProcesses`
 */
export async function inspectImages(
  source: ArchiveSource,
  options: InspectImagesOptions = {},
): Promise<InspectedImages> {
  refuseUnknown(options, OPTIONS);
  return withImages(source, options, async (images) => {
    const { dir, signal } = images;
    const files = await readOpenFiles(dir);
    const cgroups = options.cgroups === true ? await readCgroups(dir) : undefined;
    const processes: InspectedProcess[] = [];
    for (const process of await readPstree(dir)) {
      signal?.throwIfAborted();
      processes.push(await lookAt(process, images, files, { ...options, cgroups }));
    }
    const archive = options.summary === true || options.files === true ? await summaryOf(images) : undefined;
    return {
      processes,
      ...(options.mounts === true ? { mounts: await inspectMounts(dir, processes) } : {}),
      ...(cgroups === undefined ? {} : { cgroups: inspectCgroups(cgroups) }),
      ...(options.statistics === true ? { statistics: await inspectStatistics(images) } : {}),
      ...(options.summary === true && archive !== undefined ? { archive } : {}),
      ...(options.files === true ? { trees: await archivedTrees(images, archive?.manifest) } : {}),
    };
  });
}

async function summaryOf({ archive, signal }: DumpedImagesOf): Promise<ArchiveInspection> {
  const reader = new InspectionReader(archive.path, () => undefined);
  const manifest = await inspectArchive(archive, { signal, onMember: (member) => reader.look(member) });
  return reader.end({ compression: archive.compression, manifest });
}

interface Looking {
  env?: boolean | undefined;
  maps?: boolean | undefined;
  cgroups: DumpedCgroups | undefined;
}

async function lookAt(
  { pid, ppid, pgid, sid, threads }: DumpedProcess,
  images: DumpedImagesOf,
  files: ReadonlyMap<number, OpenFile>,
  { env = false, maps = false, cgroups }: Looking,
): Promise<InspectedProcess> {
  const { dir } = images;
  const task = await readDumpedTask(dir, pid);
  const { name, state, memory, descriptors, credentials, mountNamespaceId } = task;
  const strings = (start: number, end: number) => readStrings(images, pid, { start, end });
  const path = (fileId: number | undefined): string | undefined => {
    const found = fileId === undefined ? undefined : files.get(fileId)?.path;
    return found === undefined ? undefined : printable(found);
  };
  const [cwd, root] = [path(task.cwdId), path(task.rootId)];
  return {
    ...{ pid, ppid, pgid, sid, threads: threads.length, state },
    name: printable(withoutZeros(name)),
    ...(credentials === undefined ? {} : { user: credentials }),
    exe: path(memory?.exeFileId),
    ...(cwd === undefined ? {} : { cwd }),
    ...(root === undefined ? {} : { root }),
    args: memory === undefined ? undefined : await strings(memory.argsStart, memory.argsEnd),
    ...(env && memory !== undefined ? { env: await strings(memory.envStart, memory.envEnd) } : {}),
    memory:
      memory === undefined
        ? undefined
        : { mapped: memory.mappedBytes, dumped: (await readPagemap(dir, pid)).pages * PAGE_BYTES },
    ...(maps && memory !== undefined ? { mappings: await shownMappings(dir, pid, memory.mappings, files) } : {}),
    descriptors: descriptors.map(({ fd, fileId }) => ({ fd, ...shown(files.get(fileId)) })),
    ...(cgroups === undefined ? {} : { cgroups: membershipsOf(cgroups, task.cgroupSetId) }),
    ...(mountNamespaceId === undefined ? {} : { mountNamespace: mountNamespaceId }),
  };
}

async function shownMappings(
  dir: string,
  pid: number,
  mappings: readonly DumpedMapping[],
  files: ReadonlyMap<number, OpenFile>,
): Promise<InspectedMapping[]> {
  const sizes = await mappingSizes(dir, pid, mappings, files);
  return mappings.map((mapping, i) => {
    const { start, end, protection, offset } = mapping;
    const { dumped = 0, inParent = 0 } = sizes[i] ?? {};
    return {
      ...{ start: hex(start), end: hex(end), bytes: end - start, dumped, inParent },
      ...nameOfMapping(mapping, files),
      ...{ protection, offset },
    };
  });
}

/** CRIU dumps memory that is shared without a file as a memfd of this name, as the kernel shows it in maps. */
const SHARED_MEMORY = '/dev/zero';

function nameOfMapping(
  { kind, fileId }: DumpedMapping,
  files: ReadonlyMap<number, OpenFile>,
): Pick<InspectedMapping, 'kind' | 'path'> {
  const file = fileId === undefined ? undefined : files.get(fileId);
  if (file?.path === undefined) return { kind };
  const path = printable(file.path);
  if (kind === 'memfd') return path === SHARED_MEMORY ? { kind: 'shared' } : { kind, path: `memfd:${path}` };
  return { kind, path };
}

function hex(address: number): string {
  return `0x${address.toString(16)}`;
}

function shown(file: OpenFile | undefined): Omit<InspectedDescriptor, 'fd'> {
  if (file === undefined) return { kind: 'unknown' };
  const { path, sharedId: _, ...rest } = file;
  if (path === undefined) return rest;
  if (rest.kind === 'memfd') return { ...rest, path: `memfd:${printable(path)}` };
  // As ss(8) and /proc/net/unix show an abstract name.
  return { ...rest, path: path[0] === 0 ? `@${printable(path.subarray(1))}` : printable(path) };
}

function withoutZeros(name: Buffer): Buffer {
  const end = name.indexOf(0);
  return end === -1 ? name : name.subarray(0, end);
}
