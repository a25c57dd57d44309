import { byHand, criuAlone, tarAlone, tarAndSync } from './contenders/by-hand.js';
import type { Contender } from './contenders/contender.js';
import { containerdCheckpoint, podmanCheckpoint, runcInOrder } from './contenders/engines.js';
import { stillframe, stillframeContainer } from './contenders/stillframe.js';
import type { CaseSetup, Home } from './homes/home.js';
import { ContainerdHome } from './homes/containerd-home.js';
import { PodmanHome } from './homes/podman-home.js';
import { ProcessHome } from './homes/process-home.js';
import { RuncHome } from './homes/runc-home.js';

/** A home and the contenders that share it. */
export interface LineUp<H extends Home = Home> {
  start: (setup: CaseSetup) => Promise<H>;
  contenders: readonly Contender<H>[];
}

export const STILLFRAME = 'stillframe';
export const STILLFRAME_NO_PRECOPY = 'stillframe, precopy: false';
export const STILLFRAME_NO_HELPERS = 'stillframe, criuHelpers: false';
export const STILLFRAME_NO_WATCH = 'stillframe, every file looked at';

/** So many are watched (`CheckpointOptions.watchFromMs`). */
const MANY_FILES = 50_000;

const lineUp = <H extends Home>(
  start: (setup: CaseSetup) => Promise<H>,
  contenders: readonly Contender<H>[],
): LineUp => ({
  start,
  // A contender only ever meets the home that its own line-up has started.
  contenders: contenders as readonly Contender[],
});

/** A contender for plain processes has no part in a case that is about containers. */
const plain = (contender: Contender<ProcessHome>): Contender<ProcessHome> => ({
  ...contender,
  missing: (scenario) => (scenario.container === undefined ? contender.missing(scenario) : null),
});

export const lineUps: readonly LineUp[] = [
  lineUp(
    (setup) => ProcessHome.start(setup),
    [
      stillframe({ name: STILLFRAME, meets: () => true }),
      stillframe({
        name: STILLFRAME_NO_PRECOPY,
        options: { precopy: false },
        meets: ({ files, whole }) => files.count > 0 && !whole,
      }),
      stillframe({
        name: STILLFRAME_NO_WATCH,
        options: { watchFromMs: Infinity },
        meets: ({ files, whole }) => files.count >= MANY_FILES && !whole,
      }),
      byHand,
      tarAlone,
      tarAndSync,
      criuAlone,
    ].map(plain),
  ),
  lineUp(
    (setup) => RuncHome.start(setup),
    [
      stillframeContainer(STILLFRAME, {}),
      stillframeContainer(STILLFRAME_NO_HELPERS, { criuHelpers: false }),
      runcInOrder,
    ],
  ),
  lineUp((setup) => PodmanHome.start(setup), [podmanCheckpoint]),
  lineUp((setup) => ContainerdHome.start(setup), [containerdCheckpoint]),
];
