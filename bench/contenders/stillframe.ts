import { join } from 'node:path';
import { checkpoint, type CheckpointOptions } from '../../src/index.js';
import type { ProcessHome } from '../homes/process-home.js';
import type { CaseSetup } from '../homes/home.js';
import type { Contender } from './contender.js';

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
      const phases: NonNullable<Awaited<ReturnType<Contender['checkpoint']>>['phases']> = [];
      const report = await checkpoint({
        pid: home.pid,
        cgroup: home.cgroup,
        ...(home.setup.scenario.files.count > 0 ? { files: [{ path: home.filesDir, name: 'files' }] } : {}),
        output: join(outDir, 'archive.tar'),
        ...options,
        criuPath: home.setup.criu.path,
        onProgress: ({ phase, at, sinceMs }) => {
          if (at !== 'progress') phases.push({ phase, at, sinceMs });
        },
      });
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
    },
  };
}
