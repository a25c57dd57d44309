import {
  adopt,
  checkProcess,
  checkTarget,
  FreezerError,
  isFreezerError,
  openFreezer,
  type Adoption,
  type AdoptOptions,
  type CgroupMember,
  type CheckedTarget,
  type Freezer,
  type TargetToCheck,
} from '../../cgroup/index.js';
import type { ProcessInfo } from '../../proc/task.js';
import { pause } from '../../when-aborted.js';
import { ObservedTarget } from './observed-target.js';
import type { Target } from './target.js';

/** A tree in a cgroup that holds nothing else. */
export interface CheckedTree {
  freezer: Freezer;
  /** Its processes at the time of the check. */
  pids: readonly number[];
}

/**
 * The target's freezer, its cgroup checked to hold the tree and nothing else; undefined for a tree that is to be
 * adopted, which has no cgroup of its own yet. Nothing is touched.
 * @throws FreezerError the codes of openFreezer, checkTarget and checkProcess
 */
export async function checkTree(target: Target, signal?: AbortSignal): Promise<CheckedTree | undefined> {
  signal?.throwIfAborted();
  const { pid, cgroup, cgroupVersion, adopt: willAdopt, parts } = target;
  checkProcess(pid);
  if (willAdopt === true) return undefined;
  const freezer = open({ pid, cgroup, cgroupVersion });
  const { pids } = await checkWithoutGuests({ pid, cgroup: freezer.path, guests: parts?.guests === true }, signal);
  return { freezer, pids };
}

// A probe takes a tenth of a second as a rule, and a health check a second; longer is somebody's shell.
const GUESTS_PATIENCE_MS = 5000;
const LOOK_MS = 10;

/** `checkTarget`, again and again while only guests are in the way, for a while. */
async function checkWithoutGuests(target: TargetToCheck, signal: AbortSignal | undefined): Promise<CheckedTarget> {
  for (const end = performance.now() + GUESTS_PATIENCE_MS; ; await pause(LOOK_MS, signal)) {
    try {
      return checkTarget(target);
    } catch (error) {
      const isGuest = isFreezerError(error, 'CGROUP_HAS_STRANGERS') && error.facts.guests === true;
      if (!isGuest || performance.now() >= end) throw error;
    }
  }
}

function open({ pid, cgroup, cgroupVersion: version }: Pick<Target, 'pid' | 'cgroup' | 'cgroupVersion'>): Freezer {
  try {
    return openFreezer(cgroup !== undefined ? { cgroup } : { pid, version });
  } catch (error) {
    if (!isFreezerError(error, 'CGROUP_IS_ROOT')) throw error;
    throw new FreezerError('CGROUP_IS_ROOT', { ...error.facts, mayAdopt: true });
  }
}

/** A target in its cgroup, ready to be frozen; leaving its scope gives an adopted tree back. */
export class ReadyTarget extends ObservedTarget implements AsyncDisposable {
  readonly freezer: Freezer;
  /** Where the tree is at home: its cgroup's name in the hierarchy, before any adoption. */
  readonly home: { version: 1 | 2; name: string };
  readonly #adoption: Adoption | undefined;

  private constructor(target: Target, freezer: Freezer, adoption: Adoption | undefined) {
    super(target);
    this.freezer = freezer;
    this.home = { version: freezer.version, name: adoption?.origin ?? freezer.cgroupName };
    this.#adoption = adoption;
  }

  /**
   * @param freezer What checkTree found; without one the tree is adopted.
   * @param watch Told of what an adoption is about to do.
   * @throws FreezerError the codes of adopt
   */
  static async make(
    target: Target,
    freezer: Freezer | undefined,
    watch: Pick<AdoptOptions, 'onMaking' | 'onMade' | 'onHomes' | 'signal'>,
  ): Promise<ReadyTarget> {
    if (freezer !== undefined) return new ReadyTarget(target, freezer, undefined);
    const adoption = await adopt({ pid: target.pid, version: target.cgroupVersion, ...watch });
    try {
      return new ReadyTarget(target, openFreezer({ cgroup: adoption.path }), adoption);
    } catch (error) {
      await adoption.release();
      throw error;
    }
  }

  /**
   * Every task of the tree is in the cgroup and nothing else is: sure only while it is frozen.
   * @param tree As the frozen tree was found: nothing in it can fork.
   */
  members(tree: readonly ProcessInfo[]): CgroupMember[] {
    return checkTarget({ ...this.#toCheck, tree }).members;
  }

  /**
   * Resolves when nobody else is in a container's cgroup, with which the freeze had better not wait. Any other target
   * is not looked at.
   * @throws FreezerError CGROUP_HAS_STRANGERS and the other codes of checkTarget
   */
  async guestsGone(signal: AbortSignal): Promise<void> {
    if (this.parts.guests === true) await checkWithoutGuests(this.#toCheck, signal);
  }

  get #toCheck(): TargetToCheck {
    return { pid: this.pid, cgroup: this.freezer.path, guests: this.parts.guests === true };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#adoption?.release();
  }
}
