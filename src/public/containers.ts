/**
 * `stillframe/containers`: containers of runc, crun and Podman, and pods of them.
 * @module stillframe/containers
 */
export {
  checkpointContainer,
  checkpointContainerEvery,
  checkpointPod,
  containerOf,
  containerTarget,
  findContainer,
  HOST_SETTINGS,
  planContainerCheckpoint,
  restoreContainer,
  whileFrozen,
  writeImage,
  type Container,
  type ContainerCheckpointEveryOptions,
  type ContainerCheckpointOptions,
  type ContainerCheckpointPlan,
  type ContainerCheckpointReport,
  type ContainerImage,
  type ContainerName,
  type ContainerOfProcess,
  type ContainerPlanOptions,
  type ContainerRestoreOptions,
  type ContainerRestoreReport,
  type ContainerTarget,
  type ContainerTargetOptions,
  type DroppedSetting,
  type HostSetting,
  type LeftOutMount,
  type ImageOptions,
  type ImageReport,
  type OciSpec,
  type PodCheckpointOptions,
  type PodCheckpointReport,
  type PodManifest,
  type PodmanRecord,
  type PodmanVolume,
  type RuntimeName,
  type SpecMount,
  type SpecNamespace,
  type WhatToFreeze,
  type WhileFrozenOptions,
} from '../container/index.js';
export { ContainerError, type ContainerErrorCode, type ContainerFacts, type Dropped } from '../container/index.js';
export { StillframeError, type ErrorText } from '../errors.js';

// What their options and reports name.
export type { ByteRange, Entry, EntryType, JsonBytes, OutputCompression, TreeLayout, Xattr } from '../archive/index.js';
export type { ProgramOrigin, ProgramTree } from '../checkpoint/program/record.js';
export type { BadOption } from '../bad-option.js';
export type { PreDumpPlan, PreDumpRound } from '../checkpoint/dump/pre-dump.js';
export type {
  OnProgress,
  OnWarning,
  OnWindow,
  Phase,
  PhaseEvent,
  WarningEvent,
  WindowEvent,
} from '../checkpoint/events/phases.js';
export type { FrozenReport } from '../checkpoint/events/report.js';
export type { CheckpointOptions, CheckpointPlanOptions } from '../checkpoint/options.js';
export type { CheckpointPlan, PlannedTree } from '../checkpoint/plan/plan-checkpoint.js';
export type { PlannedMemory, PlannedProcess } from '../checkpoint/plan/planned-memory.js';
export type { PredictedWindow } from '../checkpoint/plan/predict-window.js';
export type { LostLock } from '../checkpoint/restore/restore-locks.js';
export type { ChangedFile } from '../checkpoint/warnings/find-changed-files.js';
export type { MovedTree } from '../checkpoint/warnings/moved-trees.js';
export type { FileStamp, OutsideFile } from '../checkpoint/warnings/outside-file.js';
export type { SeriesEvent, SeriesOptions } from '../checkpoint/series/series.js';
export type { Removal } from '../checkpoint/series/kept-archives.js';
export type { TaskState } from '../checkpoint/warnings/task-state.js';
export type { IdlePattern, Warning, WarningCode, WarningFacts } from '../checkpoint/warnings/warning.js';
export type { CgroupToFreeze, FreezeLimits, TreeToFreeze } from '../checkpoint/while-frozen.js';
export type { Frozen, OnFrozen } from '../checkpoint/window/frozen.js';
export type { WindowParts } from '../checkpoint/window/part-clock.js';
export type { FileTree, Target } from '../checkpoint/window/target.js';
export type {
  CgroupRoot,
  CpuCap,
  CriuDumpOptions,
  CriuOptions,
  DumpStats,
  InheritFd,
  JoinNamespace,
  PageServer,
  RawOption,
} from '../criu/index.js';
