import { join } from 'node:path';
import {
  checkpoint,
  checkpointContainer,
  type CheckpointOptions,
  type CheckpointReport,
  type PhaseEvent,
} from '../../src/index.js';
import type { ProcessHome } from '../homes/process-home.js';
import type { CaseSetup } from '../homes/home.js';
import type { RuncHome } from '../homes/runc-home.js';
import type { Contender, Outcome } from './contender.js';

export interface Variant {
  name: string;
  options?: Pick<CheckpointOptions, 'precopy' | 'watchFromMs'>;
  /** In which scenarios it has anything to show. */
  meets: (scenario: CaseSetup['scenario']) => boolean;
}

export function stillframe({ name, options, meets }: Variant): Contender<ProcessHome> {
  return {
    name,
    missing: (scenario) => (meets(scenario) ? undefined : null),
    async checkpoint(home, outDir) {
      const phases = new HeardPhases();
      const report = await checkpoint({
        pid: home.pid,
        cgroup: home.cgroup,
        ...(home.setup.scenario.files.count > 0 ? { files: [{ path: home.filesDir, name: 'files' }] } : {}),
        output: join(outDir, 'archive.tar'),
        ...options,
        criuPath: home.setup.criu.path,
        onProgress: phases.onProgress,
      });
      return outcomeOf(report, phases);
    },
  };
}

/** The same for a container, whose window has what CRIU starts for its mounts. Its root is no overlay. */
export function stillframeContainer(
  name: string,
  options: Pick<CheckpointOptions, 'criuHelpers'>,
): Contender<RuncHome> {
  return {
    name,
    missing: ({ container }) => (container === undefined ? null : undefined),
    async checkpoint({ id, criuPath }, outDir) {
      const output = join(outDir, 'archive.tar');
      const phases = new HeardPhases();
      const { onProgress } = phases;
      const report = await checkpointContainer({
        ...{ runc: id, wholeRootfs: true, output, criuPath, onProgress },
        ...options,
      });
      return outcomeOf(report, phases);
    },
  };
}

class HeardPhases {
  readonly list: NonNullable<Outcome['phases']> = [];
  readonly onProgress = ({ phase, at, sinceMs }: PhaseEvent): void => {
    if (at !== 'progress') this.list.push({ phase, at, sinceMs });
  };
}

/** What a report says of its checkpoint. */
function outcomeOf(report: CheckpointReport, { list: phases }: HeardPhases): Outcome {
  const { criuStats } = report;
  return {
    archiveBytes: report.archiveBytes,
    windowMs: report.windowMs,
    parts: report.window,
    phasesMs: report.phasesMs,
    refreshed: report.files.refreshed,
    phases,
    // CRIU's frozen time runs on while it waits for our answer to post-dump: that wait is ours.
    ...(criuStats === undefined
      ? {}
      : { criuMs: (criuStats.freezingTimeUs + criuStats.frozenTimeUs) / 1000 - report.window.waitForFilesMs }),
  };
}
