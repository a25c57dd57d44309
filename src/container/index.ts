export {
  checkpointContainer,
  planContainerCheckpoint,
  type ContainerCheckpointOptions,
  type ContainerCheckpointPlan,
  type ContainerCheckpointReport,
  type ContainerPlanOptions,
} from './checkpoint-container.js';
export { checkpointContainerEvery, type ContainerCheckpointEveryOptions } from './checkpoint-container-every.js';
export {
  checkpointPod,
  type PodCheckpointOptions,
  type PodCheckpointReport,
  type PodManifest,
} from './checkpoint-pod.js';
export { restoreContainer, type ContainerRestoreReport } from './restore-container.js';
export type { ContainerRestoreOptions } from './restore/options.js';
export { whileFrozen, type WhatToFreeze, type WhileFrozenOptions } from './while-frozen.js';
export { HOST_SETTINGS, type DroppedSetting, type HostSetting } from './documents/archived-spec.js';
export { writeImage, type ImageOptions, type ImageReport } from './documents/oci-image.js';
export type { LeftOutMount } from './target/left-out.js';
export { containerTarget, type ContainerTarget, type ContainerTargetOptions } from './target/container-target.js';
export { containerOf, type ContainerOfProcess } from './runtimes/container-of.js';
export { findContainer, type ContainerName } from './runtimes/find-container.js';
export type { Container, ContainerImage, PodmanRecord, PodmanVolume, RuntimeName } from './model/container.js';
export type { RuntimeOptions } from './runtimes/runc.js';
export type { PodmanOptions } from './runtimes/podman.js';
export type { OciSpec, SpecMount, SpecNamespace } from './model/spec.js';
export { ContainerError, type ContainerErrorCode, type ContainerFacts, type Dropped } from './model/container-error.js';
