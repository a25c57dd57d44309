import type { CheckpointReport, PhaseEvent, WindowParts } from '../src/index.js';
import type { Machine } from './machine.js';
import type { Scenario } from './scenarios.js';

/** One checkpoint by one contender. Times in milliseconds, sizes in bytes. */
export interface Sample {
  /** The longest hole in the workload's own execution while it was checkpointed. */
  gapMs: number;
  /** The same during a quiet tenth of a second just before: what the machine's other load does to the gauge. */
  quietMs: number;
  /** From the first command to the finished archive. */
  totalMs: number;
  /** Not known of an engine that keeps the checkpoint in a store of its own. */
  archiveBytes?: number;
  /**
   * CRIU's own freezing_time + frozen_time, without what it waited for its client, where the contender keeps CRIU's
   * statistics.
   */
  criuMs?: number;
  /** Stillframe's own report of the window. */
  windowMs?: number;
  parts?: WindowParts;
  phasesMs?: CheckpointReport['phasesMs'];
  refreshed?: CheckpointReport['files']['refreshed'];
  timeline?: Timeline;
}

/** Phases and the gauge's hole on one clock: milliseconds since the checkpoint was called. */
export interface Timeline {
  phases: Pick<PhaseEvent, 'phase' | 'at' | 'sinceMs'>[];
  holeBeganMs: number;
  holeMs: number;
}

export interface ContenderResult {
  contender: string;
  samples: Sample[];
  /** Why there are none, or no more: it is missing here, or it failed. */
  problem?: string;
}

export interface CaseResult {
  scenario: Scenario;
  contenders: ContenderResult[];
  /** What the case could not remove behind it. */
  leftBehind?: string;
}

/** A small measurement: one thing beside the plain way of doing it. */
export interface SmallResult {
  /** A phrase: "freeze 100 tasks, cgroup v2". */
  name: string;
  unit: 'ms';
  columns: { name: string; values: number[] }[];
}

/** One way to bring a busy container back, tried again and again. */
export interface RoundTripResult {
  /** A phrase: "podman container checkpoint, podman container restore". */
  name: string;
  tried: number;
  /** The restore succeeded, and the workload goes on and finds its files and its memory in agreement. */
  restored: number;
  /** What the first failure said. */
  failure?: string;
  /** Why it was not tried: it is missing here. */
  problem?: string;
}

export interface BenchResult {
  machine: Machine;
  startedAt: string;
  runs: number;
  cases: CaseResult[];
  small: SmallResult[];
  roundTrips: RoundTripResult[];
}
