import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import {
  bytesToJson,
  refuseExisting,
  surveyTrees,
  ArchiveError,
  type JsonBytes,
  type PatternUse,
  type TreeSurvey,
} from '../../archive/index.js';
import { adoptableHome, checkProcess, FreezerError, type Freezer } from '../../cgroup/index.js';
import { findCriu } from '../../criu/index.js';
import { StillframeError } from '../../errors.js';
import { lookUp } from '../../look-up.js';
import { milliseconds } from '../base/check-option.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { runningTree } from '../base/pids.js';
import { placeForImages } from '../dump/images-place.js';
import { requireMemTrack } from '../dump/pre-dump.js';
import { whoHoldsTarget } from '../guardian/lock.js';
import { PLAN_OPTIONS, refuseUnknown } from '../option-names.js';
import { targetInCopy } from '../clone/copy-target.js';
import { checkCheckpointOptions, type CheckpointPlanOptions, type CheckpointSettings } from '../options.js';
import { warnOfIdlePatterns } from '../warnings/idle-patterns.js';
import type { Warning } from '../warnings/warning.js';
import { sharedWritableMappings } from '../window/files-in-use.js';
import { ObservedTarget } from '../window/observed-target.js';
import { checkTree } from '../window/ready-target.js';
import { lookAtMemory, type PlannedMemory, type PlannedProcess } from './planned-memory.js';
import { predictWindow, type PredictedWindow } from './predict-window.js';

export interface PlannedTree extends Omit<TreeSurvey, 'patterns'> {
  name: string;
  path: string;
}

/** What a checkpoint would do now. Nothing of it has been done. Sizes in bytes. */
export interface CheckpointPlan {
  /** The root of the tree, and all its processes, the root first. */
  pid: number;
  processes: PlannedProcess[];
  /**
   * The cgroup that the root is in, and whether the tree would be moved out of it; undefined where it cannot be seen.
   */
  cgroup:
    | {
        version: 1 | 2;
        path: string;
        /** `asked`: by `adopt`. `needed`: without `adopt` the checkpoint is refused. */
        move: 'none' | 'asked' | 'needed';
      }
    | undefined;
  memory: PlannedMemory;
  /** What would be in the archive beside the memory. */
  trees: PlannedTree[];
  /** About the size of the archive, uncompressed. */
  archiveBytes: number;
  /** Where the archive would be written, and what is free there; undefined for a stream, or without `output`. */
  output: { path: string; freeBytes: number } | undefined;
  /** Where CRIU's images would be written first. */
  images: { path: string; freeBytes: number; neededBytes: number };
  window: PredictedWindow;
  criu: { path: string; version: string } | undefined;
  /** As in the report of a checkpoint: what the archive would not hold, or a restore not bring back. */
  warnings: Warning[];
  /** The errors that a checkpoint would end with as things are. What CRIU itself would refuse is not known. */
  refusals: StillframeError[];
}

/** The refusals for which a tree is moved into a cgroup of its own. */
const NEED_ADOPTION: readonly string[] = [
  'CGROUP_IS_ROOT',
  'CGROUP_HAS_STRANGERS',
  'CGROUP_HOLDS_CALLER',
  'TARGET_SPREAD',
];

/**
 * What `checkpoint()` would do with these options, without doing it: no lock is taken, no guardian started, no cgroup
 * made or frozen, no file written, and no process of the target stopped or moved.
 *
 * @throws CheckpointError BAD_OPTION, NOT_ROOT; FreezerError NO_SUCH_PROCESS, IS_ZOMBIE, IS_KERNEL_THREAD,
 * TARGET_IS_SELF; the signal's reason. Everything else that a checkpoint would be refused for is in `refusals`.
 */
export async function planCheckpoint(given: CheckpointPlanOptions): Promise<CheckpointPlan> {
  refuseUnknown(given, PLAN_OPTIONS);
  const options = targetInCopy(given);
  const { observeMs: wantedMs, output, ...rest } = options;
  const observeMs = milliseconds('observeMs', wantedMs, 1000);
  const settings = checkCheckpointOptions({ ...rest, output: output ?? 'checkpoint.tar' });
  const { signal } = options;
  signal?.throwIfAborted();
  checkProcess(options.pid);
  const refusals: StillframeError[] = [];
  /** What fails as a checkpoint would. */
  const attempt = async <T>(step: () => T | Promise<T>): Promise<T | undefined> => {
    try {
      return await step();
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof StillframeError)) throw error;
      refusals.push(error);
      return undefined;
    }
  };

  const criu = await attempt(() =>
    findCriu({ criuPath: options.criuPath, timeoutMs: settings.criuStartTimeoutMs, signal }),
  );
  if (criu !== undefined && settings.preDump !== undefined)
    await attempt(() => requireMemTrack(criu.path, { signal, timeoutMs: settings.criuStartTimeoutMs }));
  const freezer = (await attempt(() => checkTree(options, signal)))?.freezer;
  const cgroup = await whereItIs(options, freezer, refusals, attempt);
  await attempt(() => {
    const busy = whoHoldsTarget({
      pid: options.pid,
      cgroup: freezer && { version: freezer.version, path: freezer.path },
      stateDir: settings.stateDir,
    });
    if (busy !== undefined) throw busy;
  });

  const target = new ObservedTarget(options);
  const tree = runningTree(options.pid);
  const pids = tree.map(({ pid }) => pid);
  await (settings.filesInUse ? target.takeFilesInUse(pids, signal) : target.locateTrees(signal));
  const outside = target.outside(pids);
  const warnings: Warning[] = [
    ...(target.parts.warnings ?? []),
    ...(await target.unusual(pids)),
    ...(await target.lostLocks(pids, signal)),
    ...outside,
  ];
  const surveys = await surveyTrees(target.files, { observeMs, signal });
  const trees: PlannedTree[] = [];
  const uses: { tree: JsonBytes; patterns: PatternUse[] }[] = [];
  for (const [i, { path, name, mayVanish }] of target.files.entries()) {
    const survey = surveys[i] as PromiseSettledResult<TreeSurvey>;
    if (survey.status === 'fulfilled') {
      const { patterns, ...found } = survey.value;
      trees.push({ name, path, ...found });
      uses.push({ tree: bytesToJson(Buffer.from(name)), patterns });
    } else if (mayVanish !== true) await attempt(() => Promise.reject(survey.reason as Error));
  }
  warnings.push(...warnOfIdlePatterns(uses));
  if (settings.strict && warnings.length > 0) refusals.push(new CheckpointError('WARNINGS_REFUSED', { warnings }));
  const { processes, memory } = await lookAtMemory(tree);
  const dumpedBytes = memory.dumpedBytes + memory.deletedFilesBytes + memory.tmpfsBytes;
  const images = await imagesPlace(memory, settings, dumpedBytes);
  if (images.freeBytes < dumpedBytes) refusals.push(new CheckpointError('IMAGES_FULL', images));
  if (settings.outputPath !== undefined && output !== undefined)
    await attempt(() => refuseExisting(settings.outputPath as string, options.overwrite === true));

  return {
    pid: options.pid,
    processes,
    cgroup,
    memory,
    trees,
    archiveBytes: dumpedBytes + trees.reduce((sum, { bytes, entries }) => sum + bytes + 1024 * entries, 0),
    output: output === undefined ? undefined : await attempt(() => outputPlace(settings)),
    images,
    window: predictWindow({
      processes: tree.length,
      dumpedBytes,
      files: copiedFrozen(trees, settings, await mappedBytes(pids, outside, signal)),
      lookMs: lookMs(trees, settings),
      observeMs,
    }),
    criu: criu && { path: criu.path, version: criu.version },
    warnings,
    refusals,
  };
}

async function whereItIs(
  { pid, adopt, cgroupVersion }: CheckpointPlanOptions,
  freezer: Freezer | undefined,
  refusals: readonly StillframeError[],
  attempt: <T>(step: () => T) => Promise<T | undefined>,
): Promise<CheckpointPlan['cgroup']> {
  if (freezer !== undefined) return { version: freezer.version, path: freezer.path, move: 'none' };
  const needed = refusals.some((error) => error instanceof FreezerError && NEED_ADOPTION.includes(error.code));
  if (adopt !== true && !needed) return undefined;
  const home = await attempt(() => adoptableHome(pid, cgroupVersion));
  return home && { version: home.version, path: home.path, move: needed ? 'needed' : 'asked' };
}

function copiedFrozen(
  trees: readonly PlannedTree[],
  { precopy }: CheckpointSettings,
  mapped: number,
): { entries: number; bytes: number } {
  let entries = 0;
  let bytes = mapped;
  for (const tree of trees) {
    const all = !precopy || tree.isAlwaysCopied;
    entries += all ? tree.entries : tree.changed.entries;
    bytes += all ? tree.bytes : tree.changed.bytes;
  }
  return { entries, bytes };
}

/** Where the kernel tells what changes, next to nothing is looked at. */
function lookMs(trees: readonly PlannedTree[], { watchFromMs }: CheckpointSettings): number {
  return trees.reduce((sum, tree) => sum + (tree.canBeWatched && tree.lookMs >= watchFromMs ? 0 : tree.lookMs), 0);
}

/** Of files that the tree has mapped shared and writable and that are archived: they are copied again in any case. */
async function mappedBytes(
  pids: readonly number[],
  outside: readonly Warning[],
  signal: AbortSignal | undefined,
): Promise<number> {
  const found = await lookUp([...sharedWritableMappings(pids)], { follow: true, stamps: true, signal });
  const sizes = new Map(
    found.flatMap((file) => (file?.isFile === true ? [[`${file.dev}:${file.ino}`, Number(file.size)] as const] : [])),
  );
  const notArchived = outside.reduce(
    (sum, warning) =>
      warning.code !== 'FILES_NOT_ARCHIVED'
        ? sum
        : sum + warning.facts.files.reduce((bytes, file) => bytes + (file.use === 'mapped' ? (file.bytes ?? 0) : 0), 0),
    0,
  );
  return Math.max(0, [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0) - notArchived);
}

async function imagesPlace(
  { residentBytes, deletedFilesBytes, tmpfsBytes }: PlannedMemory,
  { workDir, preDump, diskDir }: CheckpointSettings,
  neededBytes: number,
): Promise<CheckpointPlan['images']> {
  // The place that a checkpoint would choose, which does not know how much less CRIU will write.
  const inMemory = residentBytes + deletedFilesBytes + tmpfsBytes;
  const path = workDir ?? (preDump === undefined ? placeForImages(inMemory, diskDir) : diskDir);
  return { path, freeBytes: await freeAt(path).catch(() => Infinity), neededBytes };
}

/** @throws ArchiveError OUTPUT_DIR_MISSING */
async function outputPlace({ outputPath }: CheckpointSettings): Promise<CheckpointPlan['output']> {
  if (outputPath === undefined) return undefined;
  try {
    return { path: outputPath, freeBytes: await freeAt(dirname(outputPath)) };
  } catch (cause) {
    throw new ArchiveError('OUTPUT_DIR_MISSING', { path: dirname(outputPath), cause });
  }
}

async function freeAt(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}
