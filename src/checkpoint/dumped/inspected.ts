/** What CRIU's images say, for people and for JSON: all text is printable. */
import type { DumpStats, MappingKind, OpenFileKind } from '../../criu/index.js';
import type { ArchiveInspection } from '../inspection.js';

/** A process as it was when it was dumped. Ids are those of its own pid namespace. */
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
  /** Real and effective. */
  user?: { uid: number; gid: number; euid: number; egid: number };
  /** Its executable's path. */
  exe: string | undefined;
  /** Its working and its root directory. */
  cwd?: string;
  root?: string;
  /** Undefined where this archive does not hold the memory that they are in. */
  args: string[] | undefined;
  /**
   * Its environment as it was at its start, each `NAME=VALUE`; with the option `env`. Undefined where this archive does
   * not hold it.
   */
  env?: string[] | undefined;
  /** Bytes. `dumped`: what the archive holds of it; a library's code, for example, is not in it. */
  memory: { mapped: number; dumped: number } | undefined;
  /** With the option `maps`. */
  mappings?: InspectedMapping[];
  descriptors: InspectedDescriptor[];
  /** Of each hierarchy, with the option `cgroups`. */
  cgroups?: InspectedMembership[];
  /** Which of `InspectedImages.mounts` it saw. Undefined where the mount namespace was not dumped. */
  mountNamespace?: number;
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

/** A part of a process's address space. */
export interface InspectedMapping {
  /** Addresses, as hexadecimal text (`0x7f…`): from the first to before `end`. */
  start: string;
  end: string;
  bytes: number;
  /** Bytes of it that the archive holds. The same pages of shared memory count in each process that has them. */
  dumped: number;
  /** Bytes that are in the images of an earlier pre-dump or checkpoint, which this archive refers to. */
  inParent: number;
  kind: MappingKind;
  /** As /proc/PID/maps shows it: `r-xp`. */
  protection: string;
  /** Of a file, and where in it (or in shared memory) the mapping begins, in bytes. */
  path?: string;
  offset: number;
}

/** The cgroup that a process is in, of one hierarchy. */
export interface InspectedMembership {
  /** The hierarchy's controllers, or its name; '' is cgroup v2. */
  controllers: string;
  path: string;
}

/** A cgroup that CRIU recorded, with what was set in it. */
export interface InspectedCgroup extends InspectedMembership {
  properties: { name: string; value: string }[];
}

export interface InspectedMount {
  /** Which mount namespace it belongs to: see `InspectedProcess.mountNamespace`. */
  namespace: number;
  id: number;
  parentId: number;
  /** The file system's; undefined where CRIU recorded none. */
  type: string | undefined;
  mountPoint: string;
  source: string;
  /** Which directory of the file system is mounted. */
  root: string;
  options: string;
  /** Comes from outside on restore, such as a bind mount of a container. */
  external: boolean;
}

/** A file tree of the archive; of a container, what it changed of its image. */
export interface ArchivedTree {
  name: string;
  /** Where it was. */
  source: string;
  root: ArchivedFile;
  /** Paths of the image that a container had removed. */
  deleted: string[];
}

/** A file, or a directory with what is below it. */
export interface ArchivedFile {
  name: string;
  isDirectory: boolean;
  /** Apparent sizes, in bytes; a second name of a file counts nothing. */
  bytes: number;
  files: number;
  /** The largest first. */
  children: ArchivedFile[];
  /** How many entries are not among the children, because the list would be too long. */
  unlisted: number;
}

/** What one look at the images found; the others where they were asked for. */
export interface InspectedImages {
  /** Parents before children. */
  processes: InspectedProcess[];
  /** Empty where no mount namespace was dumped: the processes used that of the host. */
  mounts?: InspectedMount[];
  cgroups?: InspectedCgroup[];
  /** CRIU's own figures of the dump. Undefined where the archive has none: of a tree that was stopped, for example. */
  statistics?: DumpStats | undefined;
  /** What `inspect` says of the archive, without the list of its members; with the option `summary`. */
  archive?: ArchiveInspection;
  /** With the option `files`. */
  trees?: ArchivedTree[];
}
