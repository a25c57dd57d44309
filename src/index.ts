// The story
export { checkpoint } from './checkpoint/checkpoint.js';
export { restore } from './checkpoint/restore/restore.js';
export type { CheckpointOptions, RestoreOptions } from './checkpoint/options.js';
export type { CheckpointReport, RestoreReport } from './checkpoint/events/report.js';
export type { LostLock } from './checkpoint/restore/restore-locks.js';
export type { PreDumpPlan, PreDumpRound } from './checkpoint/dump/pre-dump.js';
export type { FileTree, Target } from './checkpoint/window/ready-target.js';
export type { WindowParts } from './checkpoint/window/snapshot.js';
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

export type { Warning, WarningCode, WarningFacts } from './checkpoint/warnings/warning.js';
export type { RecordedWarning } from './checkpoint/warnings/recorded.js';
export type { FileStamp, OutsideFile } from './checkpoint/warnings/outside-file.js';
export type { ChangedFile } from './checkpoint/warnings/find-changed-files.js';
export type { TaskState } from './checkpoint/warnings/task-state.js';

export {
  frozenCgroups,
  recover,
  type FrozenCgroup,
  type Recovery,
  type RecoverOptions,
} from './checkpoint/guardian/recover.js';
export { ServiceManager, type ServiceManagerOptions } from './checkpoint/events/service-manager.js';

// Containers
export {
  checkpointContainer,
  checkpointPod,
  containerOf,
  containerTarget,
  findContainer,
  HOST_SETTINGS,
  restoreContainer,
  writeImage,
  type Container,
  type ContainerCheckpointOptions,
  type ContainerCheckpointReport,
  type ContainerImage,
  type ContainerName,
  type ContainerOfProcess,
  type ContainerRestoreOptions,
  type ContainerRestoreReport,
  type ContainerTarget,
  type ContainerTargetOptions,
  type DroppedSetting,
  type HostSetting,
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
} from './container/index.js';

// The freezer
export {
  freezerVersions,
  hierarchyRoot,
  locateCgroup,
  makeCgroup,
  openFreezer,
  placeProcess,
  processTree,
  removeCgroup,
  type CgroupLocation,
  type CgroupMember,
  type CgroupVersion,
  type Freezer,
  type FreezeOptions,
  type FreezerState,
  type FreezerTarget,
  type ThawOptions,
} from './cgroup/index.js';
export type { ProcessInfo } from './proc/task.js';

// CRIU
export {
  CriuClient,
  criuErrorOf,
  findCriu,
  followLog,
  isCriuOption,
  LazyPages,
  listCriu,
  notificationScripts,
  parseCriuOptions,
  parseLogLine,
  readDumpedFiles,
  readDumpStats,
  readInventory,
  readPstree,
  readRestoreStats,
  type CallOptions,
  type CgroupRoot,
  type CheckOptions,
  type CpuCap,
  type CriuBinary,
  type CriuClientOptions,
  type CriuDumpOptions,
  type CriuDumpRequest,
  type CriuFeatures,
  type CriuNotification,
  type CriuOptions,
  type CriuRequestOptions,
  type CriuRestoreOptions,
  type CriuSource,
  type CriuVerdict,
  type CriuVersion,
  type DumpedFile,
  type DumpedProcess,
  type DumpCallOptions,
  type DumpProgress,
  type DumpStats,
  type FindCriuOptions,
  type CriuProblem,
  type CriuServiceClient,
  type ExitStatus,
  type FollowLogOptions,
  type LazyPagesOptions,
  type LogLine,
  type PageServerChildResult,
  type PageServerResult,
  type PageServer,
  type RawOption,
  type RestoreResult,
  type ServiceOptions,
  type InheritFd,
  type Inventory,
  type JoinNamespace,
  type NotificationReply,
  type NotificationScript,
  type OnNotify,
  type RestoreStats,
  type SwrkEnd,
  type SwrkOptions,
  type VersionNumber,
  type WorkOptions,
} from './criu/index.js';
export type { ProcessEnd } from './process.js';
export { openPipe, sendDescriptor } from './descriptors.js';

// The archive
export {
  inspect,
  readMember,
  verify,
  type ArchiveInspection,
  type ArchiveMember,
  type ArchiveVerification,
  type ReadOptions,
} from './checkpoint/inspect.js';
export type {
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
  Xattr,
} from './archive/index.js';

// This machine
export { diagnose, type Diagnosis, type Finding } from './checkpoint/doctor.js';

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
} from './checkpoint/base/checkpoint-error.js';
export {
  FreezerError,
  type AfterFailure,
  type FreezerErrorCode,
  type FreezerFacts,
  type NamedProcess,
  type UnfrozenTask,
} from './cgroup/index.js';
export { ContainerError, type ContainerErrorCode, type ContainerFacts } from './container/index.js';
export { CriuError, type CriuErrorCode, type CriuErrorFacts, type UnixPeer } from './criu/index.js';
export { ArchiveError, type ArchiveErrorCode, type ArchiveFacts } from './archive/index.js';
