import type { OptionNames } from '../bad-option.js';
import { requireOptions } from './check-arguments.js';
import { FreezerError, isFreezerError, type AfterFailure } from './freezer-error.js';
import { cgroupNameOf } from './membership.js';
import { readProcess } from '../proc/task.js';
import * as v1 from './freezer-v1.js';
import * as v2 from './freezer-v2.js';
import { locateCgroup, openCgroup, type CgroupLocation } from './locate.js';
import type { FreezerMechanism, FreezerState } from './mechanism.js';
import type { CgroupVersion } from './mountinfo.js';
import { stillBlocked, unfrozenTasks } from './unfrozen.js';

export interface FreezeOptions {
  /** How long to wait for the kernel to say frozen, in milliseconds. Default 2000. */
  timeoutMs?: number;
  /** Ends the wait early; the wish is taken back. */
  signal?: AbortSignal | undefined;
}

export interface ThawOptions {
  /** How long to wait for the kernel to say thawed, in milliseconds. Default 2000. */
  timeoutMs?: number;
}

/** One cgroup's freezer, v1 or v2. It holds nothing open: there is nothing to close. */
export interface Freezer {
  readonly version: CgroupVersion;
  /** Absolute directory of the cgroup. */
  readonly path: string;
  /** The cgroup's path within its hierarchy. */
  readonly cgroupName: string;
  /**
   * Freezes the cgroup and resolves once the kernel reports it and all below it frozen.
   * On failure it has been thawed again and that was verified, unless it was self-frozen before the call;
   * `facts.after` of the error says which.
   * @throws FreezerError FREEZE_TIMEOUT and FREEZE_ABORTED (both name every task that did not freeze),
   * CGROUP_HOLDS_CALLER, CGROUP_GONE, CGROUP_DENIED
   */
  freeze(options?: FreezeOptions): Promise<void>;
  /**
   * Takes this cgroup's own wish back and resolves once the kernel reports it running.
   * Cgroups below it that are self-frozen stay so.
   * @throws FreezerError THAW_BLOCKED_BY_ANCESTOR (the own wish is gone all the same), THAW_TIMEOUT, CGROUP_GONE,
   * CGROUP_DENIED
   */
  thaw(options?: ThawOptions): Promise<void>;
  /** What the kernel says now; synchronous, some tens of microseconds. @throws FreezerError CGROUP_GONE */
  state(): FreezerState;
}

export type FreezerTarget = { cgroup: string } | { pid: number; version?: CgroupVersion };

const DEFAULT_TIMEOUT_MS = 2000;
const TARGET_OPTIONS = { cgroup: true, pid: true, version: true } as const;
const FREEZE_OPTIONS: OptionNames<FreezeOptions> = { timeoutMs: true, signal: true };
const THAW_OPTIONS: OptionNames<ThawOptions> = { timeoutMs: true };
const mechanisms: Record<CgroupVersion, FreezerMechanism> = { 1: v1, 2: v2 };

/**
 * The freezer of a cgroup's directory, or of the cgroup that a process is in. Nothing is changed.
 * @throws FreezerError BAD_OPTION, and the codes of openCgroup and locateCgroup
 */
export function openFreezer(target: FreezerTarget): Freezer {
  const given: Partial<Record<keyof typeof TARGET_OPTIONS, unknown>> = target;
  requireOptions(given, TARGET_OPTIONS);
  const { cgroup, pid, version } = given as { cgroup?: string; pid: number; version?: CgroupVersion };
  return new KernelFreezer(cgroup !== undefined ? openCgroup(cgroup) : locateCgroup(pid, { version }));
}

class KernelFreezer implements Freezer {
  readonly version: CgroupVersion;
  readonly path: string;
  readonly cgroupName: string;
  readonly #mechanism: FreezerMechanism;

  constructor({ version, path, name }: CgroupLocation) {
    this.version = version;
    this.path = path;
    this.cgroupName = name;
    this.#mechanism = mechanisms[version];
  }

  state(): FreezerState {
    return this.#mechanism.readState(this.path);
  }

  async freeze(options: FreezeOptions = {}): Promise<void> {
    requireOptions(options, FREEZE_OPTIONS);
    const { signal } = options;
    const timeoutMs = checkedTimeout(options.timeoutMs);
    const { path } = this;
    if (signal?.aborted === true)
      throw new FreezerError('FREEZE_ABORTED', { path, tasks: [], after: 'untouched', cause: signal.reason });

    this.#refuseOwnCgroup();
    const wasSelfFrozen = this.state().selfFrozen;
    const deadline = performance.now() + timeoutMs;
    let outcome, suspects;
    try {
      this.#mechanism.writeRequest(path, true);
      outcome = await this.#mechanism.waitUntil(path, true, { deadline, signal, mayThawBriefly: !wasSelfFrozen });
      if (outcome === 'reached') return;
      suspects = await unfrozenTasks(path, this.#mechanism);
    } catch (error) {
      if (!wasSelfFrozen) await this.#takeBackAfter(error);
      throw error;
    }

    const { after, cause } = wasSelfFrozen
      ? { after: 'was-self-frozen' as const, cause: undefined }
      : await this.#takeBack();
    const tasks = after === 'thawed' ? stillBlocked(suspects) : suspects;
    if (outcome === 'aborted')
      throw new FreezerError('FREEZE_ABORTED', { path, tasks, after, cause: cause ?? signal?.reason });
    throw new FreezerError('FREEZE_TIMEOUT', { path, timeoutMs, tasks, after, cause });
  }

  async thaw(options: ThawOptions = {}): Promise<void> {
    requireOptions(options, THAW_OPTIONS);
    const timeoutMs = checkedTimeout(options.timeoutMs);
    const { path } = this;
    const deadline = performance.now() + timeoutMs;
    this.#mechanism.writeRequest(path, false);
    this.#throwIfAncestorFrozen();
    if ((await this.#mechanism.waitUntil(path, false, { deadline })) === 'reached') return;
    this.#throwIfAncestorFrozen();
    throw new FreezerError('THAW_TIMEOUT', { path, timeoutMs });
  }

  /** This process would stand still with the rest, in the middle of waiting for that. */
  #refuseOwnCgroup(): void {
    const cgroup = cgroupNameOf(process.pid, this.version);
    if (cgroup !== this.cgroupName && !cgroup.startsWith(`${this.cgroupName}/`)) return;
    const callers = [{ pid: process.pid, name: readProcess(process.pid)?.name ?? '', cgroup }];
    throw new FreezerError('CGROUP_HOLDS_CALLER', { path: this.path, callers });
  }

  #throwIfAncestorFrozen(): void {
    const { frozenAncestor } = this.state();
    if (frozenAncestor !== undefined)
      throw new FreezerError('THAW_BLOCKED_BY_ANCESTOR', { path: this.path, ancestor: frozenAncestor });
  }

  /** A wish left behind would freeze the cgroup later, after the caller was told that it failed. */
  async #takeBack(): Promise<{ after: AfterFailure; cause: unknown }> {
    try {
      await this.thaw();
      return { after: 'thawed', cause: undefined };
    } catch (error) {
      if (isFreezerError(error, 'THAW_BLOCKED_BY_ANCESTOR')) return { after: 'held-by-ancestor', cause: undefined };
      return { after: 'not-thawed', cause: error };
    }
  }

  async #takeBackAfter(error: unknown): Promise<void> {
    if (isFreezerError(error, 'CGROUP_GONE')) return;
    const { cause } = await this.#takeBack();
    if (cause !== undefined && !isFreezerError(cause, 'CGROUP_GONE')) {
      throw new AggregateError([error, cause], `cgroup neither frozen nor thawed again: ${this.path}`);
    }
  }
}

function checkedTimeout(timeoutMs: number = DEFAULT_TIMEOUT_MS): number {
  if (typeof timeoutMs === 'number' && timeoutMs >= 0 && timeoutMs <= 0x7fff_ffff) return timeoutMs;
  throw new FreezerError('BAD_OPTION', {
    option: 'timeoutMs',
    value: timeoutMs,
    expected: 'milliseconds from 0 to 2147483647',
  });
}
