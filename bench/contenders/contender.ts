import type { Home } from '../homes/home.js';
import type { Scenario } from '../scenarios.js';
import type { Sample } from '../results.js';

/** What a contender itself knows of its checkpoint; the gauge knows the rest. */
export type Outcome = Omit<Sample, 'gapMs' | 'quietMs' | 'totalMs' | 'timeline'> &
  Partial<Pick<Sample, 'totalMs'>> & { phases?: NonNullable<Sample['timeline']>['phases'] };

/** One way to checkpoint a workload that runs on afterwards. */
export interface Contender<H extends Home = Home> {
  name: string;
  /** Why it does not run in this scenario on this machine; undefined when it does; null when it is not meant to. */
  missing(scenario: Scenario): string | undefined | null;
  /** No more rounds than that, where each takes too long. */
  maxRuns?(scenario: Scenario): number;
  /** Checkpoints into an empty directory. The time it takes is its whole time. */
  checkpoint(home: H, outDir: string): Promise<Outcome>;
}
