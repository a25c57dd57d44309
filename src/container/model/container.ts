import type { OciSpec } from './spec.js';

export type RuntimeName = 'runc' | 'crun' | 'podman';

/** A running container, whichever runtime has it. */
export interface Container {
  runtime: RuntimeName;
  /** The low-level runtime that made it and can restore it: `runc`, `crun`, or a path. */
  ociRuntime: string;
  id: string;
  /** What people call it; the id where the runtime knows no names. */
  name: string;
  /** The init process. */
  pid: number;
  /** Directory of its freezer cgroup, where the runtime says so. */
  cgroup?: string;
  /** Directory with config.json. */
  bundle: string;
  spec: OciSpec;
  /** The root file system, as the host sees it. */
  rootfs: string;
  /** Where descriptors 0, 1 and 2 pointed to when it was started: `pipe:[123]`, `/dev/null`, a path. */
  descriptors: string[];
  createdAt: string;
  image?: ContainerImage;
  /** Podman's own record of the container, which its restore reads. */
  podman?: PodmanRecord;
}

export interface ContainerImage {
  /** The name asked for. */
  name: string;
  id?: string;
}

export interface PodmanRecord {
  /** The bytes of its `config.dump`. */
  config: Buffer;
  /** Its network status, as JSON; `null` without a network. */
  networkStatus: unknown;
  logPath?: string;
  /** Source directory of the container's /dev/shm. */
  shmDir?: string;
  volumes: PodmanVolume[];
}

export interface PodmanVolume {
  name: string;
  destination: string;
  /** Where its files are on this machine. */
  mountPoint: string;
}
