import type { VerifiedArchive } from '../../archive/index.js';
import type { Phases } from '../../checkpoint/events/phases.js';
import type { Guardian } from '../../checkpoint/guardian/guardian.js';
import type { Undo } from '../../checkpoint/restore/undo.js';
import type { AdaptedSpec, DroppedSetting } from '../documents/archived-spec.js';
import type { RecordedContainer } from '../documents/recorded-container.js';
import type { Container } from '../model/container.js';
import type { ContainerRestoreOptions } from './options.js';

/** What a runtime needs to restore a container whose archive is verified. */
export interface ContainerRestorePlan {
  options: ContainerRestoreOptions;
  phases: Phases;
  verified: VerifiedArchive;
  subject: RecordedContainer;
  /** A private directory, for CRIU's images and logs. */
  privateDir: string;
  /** With the CRIU that was found first on PATH. */
  env: NodeJS.ProcessEnv;
  guardian: Guardian;
  /** Told how what is made is taken back. */
  undo: Undo;
}

export interface RestoredContainer {
  container: Container;
  dropped: DroppedSetting[];
  hostMounts: AdaptedSpec['hostMounts'];
}
