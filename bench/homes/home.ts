import type { CriuBinary } from '../../src/index.js';
import type { Gauge } from '../gauge.js';
import type { Scenario } from '../scenarios.js';

/** Where a case may write, and what it may use. */
export interface CaseSetup {
  scenario: Scenario;
  /** On the file system under test. */
  scratchDir: string;
  /** On tmpfs, for the gauge's page. */
  statusDir: string;
  criu: CriuBinary;
}

/** A running workload, in the surroundings that some contenders share. */
export interface Home extends AsyncDisposable {
  readonly gauge: Gauge;
}

/** How long a workload may take to touch its memory and write its files, in milliseconds. */
export const READY_TIMEOUT_MS = 120_000;
