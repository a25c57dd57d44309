/**
 * `stillframe`: checkpoint and restore of process trees, frozen moments, programs with names, and what archives hold.
 * @module stillframe
 */
// The story
export { checkpoint } from './checkpoint/checkpoint.js';
export { restore } from './checkpoint/restore/restore.js';
export { prepare, type PrepareReport } from './checkpoint/prepare/prepare.js';
export type { PrepareOptions } from './checkpoint/prepare/options.js';
export { planCheckpoint, type CheckpointPlan, type PlannedTree } from './checkpoint/plan/plan-checkpoint.js';
export type { PlannedMemory, PlannedProcess } from './checkpoint/plan/planned-memory.js';
export type { PredictedWindow } from './checkpoint/plan/predict-window.js';
export type {
  BeforeResume,
  CheckpointOptions,
  CheckpointPlanOptions,
  OnBeforeResume,
  RestoreOptions,
} from './checkpoint/options.js';
export { restoreCopies, type CopiesOptions, type CopiesReport } from './checkpoint/clone/copies.js';
export type { CloneOptions } from './checkpoint/clone/options.js';
export type {
  CheckpointReport,
  CloneReport,
  FrozenReport,
  ReplacedTree,
  RestoreReport,
} from './checkpoint/events/report.js';
export type { Frozen, OnFrozen } from './checkpoint/window/frozen.js';
export type { CgroupToFreeze, FreezeLimits, TreeToFreeze } from './checkpoint/while-frozen.js';
export type { TreeEnd } from './tree-end.js';
export type { LostLock } from './checkpoint/restore/restore-locks.js';
export type { PreDumpPlan, PreDumpRound } from './checkpoint/dump/pre-dump.js';
export type { FileTree, Target } from './checkpoint/window/target.js';
export type { WindowParts } from './checkpoint/window/part-clock.js';
export {
  PHASE_CHANNEL,
  WARNING_CHANNEL,
  WINDOW_CHANNEL,
  type OnProgress,
  type OnWarning,
  type OnWindow,
  type Phase,
  type PhaseEvent,
  type WarningEvent,
  type WindowEvent,
} from './checkpoint/events/phases.js';

export { inspectImages, inspectProcesses, type InspectImagesOptions } from './checkpoint/dumped/inspect-processes.js';
export {
  searchMemory,
  type MemoryMatch,
  type MemorySearch,
  type SearchMemoryOptions,
} from './checkpoint/dumped/search-memory.js';
export { readMemory, type MemoryPiece, type ReadMemoryOptions } from './checkpoint/dumped/read-memory.js';
export type { InspectProcessesOptions } from './checkpoint/dumped/open-images.js';
export type {
  InspectedCgroup,
  InspectedDescriptor,
  InspectedImages,
  InspectedMapping,
  ArchivedFile,
  ArchivedTree,
  InspectedMembership,
  InspectedMount,
  InspectedProcess,
} from './checkpoint/dumped/inspected.js';
export type { ExpectedFile, Restorability, RestoreFault } from './checkpoint/restorable/restorability.js';
export type { IdlePattern, Warning, WarningCode, WarningFacts } from './checkpoint/warnings/warning.js';
export type { RecordedWarning } from './checkpoint/warnings/recorded.js';
export type { FileStamp, OutsideFile } from './checkpoint/warnings/outside-file.js';
export type { MovedTree } from './checkpoint/warnings/moved-trees.js';
export type { ChangedFile } from './checkpoint/warnings/find-changed-files.js';
export type { TaskState } from './checkpoint/warnings/task-state.js';

export {
  frozenCgroups,
  leftJournals,
  recover,
  type FrozenCgroup,
  type LeftJournal,
  type Recovery,
  type RecoverOptions,
} from './checkpoint/guardian/recover.js';
export { ServiceManager, type ServiceManagerOptions } from './checkpoint/events/service-manager.js';

// Programs that are started to be checkpointed
export { start, type ProgramEnd, type StartedProgram, type StartOptions } from './checkpoint/program/start.js';
export { findProgram, listPrograms, type NamedProgram } from './checkpoint/program/list.js';
export type { ProgramOrigin, ProgramTree } from './checkpoint/program/record.js';

// Checkpoints again and again, and the way back from the newest
export { checkpointEvery, type CheckpointEveryOptions } from './checkpoint/series/checkpoint-every.js';
export { listArchives, type ArchiveList } from './checkpoint/series/list.js';
export type { ArchivedTarget, ListedArchive } from './checkpoint/series/listed-archive.js';
export { latestArchive, withLatestArchive, type Latest, type LatestOptions } from './checkpoint/series/latest.js';
export {
  startOrRestore,
  type StartedOrRestored,
  type StartOrRestoreOptions,
} from './checkpoint/series/start-or-restore.js';
export type { SeriesEvent, SeriesOptions } from './checkpoint/series/series.js';
export type { Removal } from './checkpoint/series/kept-archives.js';

// Parts that are also subpaths of the package: stillframe/containers, stillframe/cgroup, stillframe/criu
export * from './public/containers.js';
export * from './public/cgroup.js';
export * from './public/criu.js';

// The archive
export {
  inspect,
  readMember,
  verify,
  type InspectOptions,
  type ArchiveVerification,
  type ReadOptions,
  type VerifyOptions,
} from './checkpoint/inspect.js';
export type { ArchiveInspection, ArchiveMember, ArchiveSizes } from './checkpoint/inspection.js';
export type { ForeignCheckpoint } from './checkpoint/foreign-checkpoint.js';
export type {
  ArchiveSource,
  ByteRange,
  Entry,
  EntryType,
  Integrity,
  JsonBytes,
  Manifest,
  OutputCompression,
  TreeLayout,
  TreeRecord,
  TreeSource,
  TreeSurvey,
  Xattr,
} from './archive/index.js';

// This machine
export { diagnose, type DiagnoseOptions, type Diagnosis, type Finding } from './checkpoint/doctor.js';

// Errors
export { StillframeError, type ErrorText } from './errors.js';
export { NativeError, type NativeErrorCode, type NativeFacts } from './native.js';
export {
  CheckpointError,
  type CheckpointErrorCode,
  type CheckpointFacts,
  type DifferingFile,
  type LockHolder,
  type PidHolder,
  type SkippedArchive,
} from './checkpoint/base/checkpoint-error.js';
export { ArchiveError, type ArchiveErrorCode, type ArchiveFacts } from './archive/index.js';
