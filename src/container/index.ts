export { checkpointContainer, type ContainerCheckpointOptions, type ContainerCheckpointReport } from './checkpoint-container.js';
export { restoreContainer, type ContainerRestoreOptions, type ContainerRestoreReport } from './restore-container.js';
export { containerTarget, type ContainerTarget, type ContainerTargetOptions } from './container-target.js';
export { findContainer, type ContainerName } from './find-container.js';
export type { Container, ContainerImage, PodmanRecord, PodmanVolume, RuntimeName } from './container.js';
export type { RuntimeOptions } from './runc.js';
export type { PodmanOptions } from './podman.js';
export type { OciSpec, SpecMount, SpecNamespace } from './spec.js';
export { ContainerError, type ContainerErrorCode, type ContainerFacts } from './container-error.js';
