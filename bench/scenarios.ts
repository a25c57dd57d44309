const KB = 1000;
const MiB = 2 ** 20;

/** What one case checkpoints. Each axis is moved alone, from a small process without files. */
export interface Scenario {
  name: string;
  cgroup: 1 | 2;
  /** Memory touched, in MiB, over what a static C program has. */
  memoryMiB: number;
  files: { count: number; bytesEach: number };
  /** Share of the files that the workload rewrites all the time: 0 to 1. */
  changing: number;
  /** Whether the container engines take part. They choose their freezer themselves: v1 where they find it. */
  peers: boolean;
  /**
   * Whether it is about the whole time, and not about the gap: GNU tar alone and CRIU alone are measured beside, and
   * the gauge looks only every 10 ms. At its usual rate it takes a tenth of one core, which costs whoever uses both.
   */
  whole: boolean;
  /**
   * Set where it is about a container's window: a runc container with its default mounts, by Stillframe with and
   * without its helpers for CRIU, and in CRI-O's order. Its network namespace.
   */
  container?: 'host network' | 'own network';
  /** No more rounds than that, where each takes minutes. */
  maxRuns?: number;
  /** Whether it belongs to `--quick`. */
  quick: boolean;
  /** Whether the README shows it: `--readme`. */
  readme: boolean;
}

/** A small process without files. */
export const small = {
  cgroup: 2,
  memoryMiB: 4,
  files: { count: 0, bytesEach: 0 },
  changing: 0,
  peers: false,
  whole: false,
  quick: false,
  readme: false,
} as const satisfies Omit<Scenario, 'name'>;

export const scenarios: readonly Scenario[] = [
  { ...small, name: '4 MB of memory, no files, cgroup v2', readme: true, peers: true, quick: true },
  { ...small, name: '4 MB of memory, no files, cgroup v1', cgroup: 1, quick: true },

  {
    ...small,
    name: '4 MB of memory, 1,000 files of 1 kB',
    readme: true,
    files: { count: 1000, bytesEach: KB },
    peers: true,
  },
  {
    ...small,
    name: '4 MB of memory, 100,000 files of 1 kB',
    readme: true,
    files: { count: 100_000, bytesEach: KB },
    peers: true,
  },
  { ...small, name: 'whole time: 100,000 files of 1 kB', files: { count: 100_000, bytesEach: KB }, whole: true },

  {
    ...small,
    name: '4 MB of memory, 64 MiB in 16 files',
    files: { count: 16, bytesEach: 4 * MiB },
    peers: true,
    quick: true,
  },
  {
    ...small,
    name: '4 MB of memory, 1 GiB in 16 files',
    readme: true,
    files: { count: 16, bytesEach: 64 * MiB },
    peers: true,
  },
  { ...small, name: 'whole time: 1 GiB in 16 files', files: { count: 16, bytesEach: 64 * MiB }, whole: true },
  {
    ...small,
    name: '4 MB of memory, 1 GiB in 16 files, cgroup v1',
    cgroup: 1,
    files: { count: 16, bytesEach: 64 * MiB },
  },
  {
    ...small,
    name: '4 MB of memory, 4 GiB in 16 files',
    readme: true,
    files: { count: 16, bytesEach: 256 * MiB },
    peers: true,
    maxRuns: 5,
  },

  { ...small, name: '64 MB of memory, no files', readme: true, memoryMiB: 64, peers: true, quick: true },
  { ...small, name: '512 MB of memory, no files', readme: true, memoryMiB: 512, peers: true },
  { ...small, name: '64 MB of memory, no files, cgroup v1', cgroup: 1, memoryMiB: 64 },

  { ...small, name: '1 GiB in 1,000 files, none changing', files: { count: 1000, bytesEach: MiB } },
  { ...small, name: '1 GiB in 1,000 files, 1 % changing', files: { count: 1000, bytesEach: MiB }, changing: 0.01 },
  {
    ...small,
    name: '1 GiB in 1,000 files, 10 % changing',
    readme: true,
    files: { count: 1000, bytesEach: MiB },
    changing: 0.1,
  },

  { ...small, name: 'runc container, 4 MB of memory, host network', container: 'host network' },
  { ...small, name: 'runc container, 4 MB of memory, own network namespace', container: 'own network' },
];

export function fileBytes({ files }: Scenario): number {
  return files.count * files.bytesEach;
}
