export {
  CriuClient,
  type CheckOptions,
  type CriuClientOptions,
  type CriuFeatures,
  type CriuServiceClient,
  type ExitStatus,
  type PageServerChildResult,
  type PageServerResult,
  type RestoreResult,
} from './client/client.js';
export type { CallOptions, DumpCallOptions, WorkOptions } from './client/session.js';
export type { DumpProgress } from './client/dump-progress.js';
export type { ServiceOptions } from './process/criu-connection.js';
export { findHelperTar, helperEnvironment } from './process/helpers.js';
export type {
  CgroupRoot,
  CpuCap,
  CriuDumpOptions,
  CriuDumpRequest,
  CriuOptions,
  CriuRequestOptions,
  CriuRestoreOptions,
  CriuRestoreRequest,
  InheritFd,
  JoinNamespace,
  PageServer,
  RawOption,
} from './rpc/options.js';
export { isOption as isCriuOption } from './rpc/option-fields.js';
export { parseCriuOptions } from './rpc/option-text.js';
export {
  notificationScripts,
  type CriuNotification,
  type NotificationReply,
  type NotificationScript,
  type OnNotify,
} from './rpc/notification.js';
export {
  CriuError,
  type CriuErrorCode,
  type CriuFacts,
  type SessionFacts,
  type TriedCriu,
  type UnixPeer,
} from './errors/criu-error.js';
export type { CriuProblem } from './errors/known-failures.js';
export { criuErrorOf } from './client/exchange.js';
export type { CriuVersion, VersionNumber } from './rpc/version.js';
export {
  doubtCriu,
  findCriu,
  listCriu,
  type CriuBinary,
  type CriuSource,
  type CriuVerdict,
  type FindCriuOptions,
} from './find-criu.js';
export { followLog, type FollowLogOptions } from './client/follow-log.js';
export { lastErrors, parseLogLine, readLastErrors, type LogLine } from './errors/log-line.js';
export { readDumpStats, readRestoreStats, type DumpStats, type RestoreStats } from './images/stats.js';
export { mayBeRegular, readDumpedFiles, type DumpedFile } from './images/files.js';
export { readPstree, type DumpedProcess } from './images/pstree.js';
export { readDumpedTask, type DumpedDescriptor, type DumpedTask } from './images/task.js';
export type { DumpedMapping, DumpedMemory, MappingKind } from './images/memory.js';
export { readMounts, type DumpedMount } from './images/mounts.js';
export { readCgroups, type DumpedCgroup, type DumpedCgroups } from './images/cgroups.js';
export { readPagemap, walkPagemap, type DumpedPages, type Pagemap } from './images/pagemap.js';
export { readOpenFiles, type OpenFile, type OpenFileKind } from './images/open-files.js';
export { readDumpedLocks, type DumpedLock } from './images/file-locks.js';
export { repairTimers } from './images/timers.js';
export { readListeningSockets, type ListeningSocket } from './images/inet-sockets.js';
export { addressWords, replaceAddresses, type AddressWords } from './images/replace-addresses.js';
export { orderUnixSockets } from './images/unix-sockets.js';
export { needsTerminal } from './images/tty.js';
export { readInventory, type Inventory } from './images/inventory.js';
export { LazyPages, type LazyPagesOptions } from './lazy-pages.js';
export { isOurTerminal, terminalProblem } from './process/terminal.js';
export { PacketSocket } from './process/packet-socket.js';
export { criuEnvironment } from './process/breakpoints.js';
export { Swrk, type SwrkOptions } from './process/swrk.js';
export type { SwrkEnd } from './process/criu-connection.js';
export { OLDEST_CRIU } from './oldest.js';
