import { existsSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { basename, join, posix } from 'node:path';
import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises';
import { readControl } from './control-file.js';
import { openFreezer } from './freezer.js';
import { FreezerError, isFreezerError } from './freezer-error.js';
import { tasksFrom } from './hierarchy.js';
import { cgroupOf, freezerVersions, type CgroupLocation } from './locate.js';
import type { CgroupVersion } from './mountinfo.js';
import { makeCgroup, moveProcess, moveThread, pidsFrom, removeCgroup } from './place.js';
import { isAlive, selfAndAncestors, threadIds, threadsOf, type ProcessInfo } from '../proc/task.js';
import { cgroupNameOf } from './membership.js';
import { checkProcess } from './target.js';
import { processTree } from './tree.js';

export interface AdoptOptions {
  pid: number;
  /** Which freezer. Default: v2 where there is one. */
  version?: CgroupVersion;
  /** How long to chase a tree that forks while it is moved, in milliseconds. Default 10000. */
  timeoutMs?: number;
  /** Cancels: what has been moved by then is moved back. */
  signal?: AbortSignal | undefined;
  /**
   * Told of the cgroup that is about to be made for the tree: for whoever undoes this when we die, as are the others.
   */
  onMaking?: ((path: string) => void) | undefined;
  /** Told of the cgroup made for the tree, before any task is moved into it. */
  onMade?: ((made: { version: CgroupVersion; path: string; adoptedFrom: string }) => void | Promise<void>) | undefined;
  /** Told of processes that are at home elsewhere than the tree's root, before they are moved. */
  onHomes?: ((homes: ProcessHome[]) => void) | undefined;
}

/** Where a process of an adopted tree is at home. */
export interface ProcessHome {
  pid: number;
  startTime: bigint;
  /** Its cgroup's directory. */
  directory: string;
}

/** A process tree in a cgroup of its own, on loan. Leaving its scope gives it back. */
export interface Adoption extends AsyncDisposable {
  readonly version: CgroupVersion;
  /** Directory of the cgroup made for it. */
  readonly path: string;
  /** Where the tree's root is at home: its cgroup's path within the hierarchy. */
  readonly origin: string;
  /**
   * Thaws the cgroup, moves every task back to where it came from (ones forked since: to where their nearest adopted
   * ancestor came from, else the root) and removes the cgroup. May be called again after a failure.
   * @throws FreezerError RELEASE_FAILED with the pids that are still in it, CGROUP_BUSY
   */
  release(): Promise<void>;
}

interface Home {
  startTime: bigint;
  directory: string;
  /** v1: threads that were elsewhere than their leader. */
  threads: Map<number, string>;
}

const PAUSE_MS = 1;
// The kernel takes about a millisecond to move one process, it waits for all processors: hence a turn of the event loop
// after each.
const MAX_ROUNDS = 200;

/**
 * Moves a process tree into a fresh cgroup of its own, below the one that its root is in: there every limit of the old
 * place still holds, and the kernel allows it wherever a process already is (a v2 cgroup with processes
 * passes no controllers on). Prefers v2: a task frozen there can still be killed, and the kernel notifies.
 * When it fails midway, everything is moved back.
 * @throws FreezerError the codes of checkProcess; CGROUP_NOT_VISIBLE; ADOPT_FAILED; CGROUP_DENIED; the signal's reason
 */
export async function adopt(options: AdoptOptions): Promise<Adoption> {
  const { pid, timeoutMs = 10_000, signal } = options;
  signal?.throwIfAborted();
  const home = adoptableHome(pid, options.version);
  const { version } = home;
  const path = join(home.path, `stillframe-${pid}-${randomBytes(4).toString('hex')}`);

  options.onMaking?.(path);
  makeCgroup(path);
  const adoption = new KernelAdoption(pid, home, path, options.onHomes);
  try {
    await options.onMade?.({ version, path, adoptedFrom: home.path });
    await adoption.gather(performance.now() + timeoutMs, signal);
    return adoption;
  } catch (error) {
    try {
      await adoption.release();
    } catch (releaseError) {
      throw new AggregateError([error, releaseError], `process ${pid} neither adopted nor given back: ${path}`);
    }
    throw error;
  }
}

/**
 * Where a tree would be adopted from: the cgroup of its root. Nothing is touched.
 * @throws FreezerError the codes of checkProcess; CGROUP_NOT_VISIBLE; ADOPT_FAILED where no cgroup can be made below it
 */
export function adoptableHome(pid: number, version: CgroupVersion = preferredVersion()): CgroupLocation {
  checkProcess(pid);
  const home = cgroupOf(pid, version);
  refuseThreaded(pid, home.path, version);
  return home;
}

function preferredVersion(): CgroupVersion {
  const versions = freezerVersions();
  return versions.includes(2) || versions.length === 0 ? 2 : 1;
}

function refuseThreaded(pid: number, directory: string, version: CgroupVersion): void {
  const typeFile = join(directory, 'cgroup.type');
  if (version !== 2 || !existsSync(typeFile) || readControl(typeFile) === 'domain') return;
  throw new FreezerError('ADOPT_FAILED', {
    pid,
    path: directory,
    reason: `it is a ${readControl(typeFile)} cgroup, out of which no process can be moved and put back thread by thread`,
  });
}

class KernelAdoption implements Adoption {
  readonly version: CgroupVersion;
  readonly path: string;
  readonly origin: string;
  readonly #pid: number;
  readonly #home: CgroupLocation;
  /** The path of the cgroup made for it, as /proc names it. */
  readonly #name: string;
  readonly #homes = new Map<number, Home>();
  readonly #directories = new Map<string, string>();

  readonly #onHomes: AdoptOptions['onHomes'];

  constructor(pid: number, home: CgroupLocation, path: string, onHomes: AdoptOptions['onHomes']) {
    this.version = home.version;
    this.path = path;
    this.origin = home.name;
    this.#pid = pid;
    this.#home = home;
    this.#name = posix.join(home.name, basename(path));
    this.#onHomes = onHomes;
  }

  /** A child forked between the look and the move is born outside: look again until there is none. */
  async gather(deadline: number, signal: AbortSignal | undefined): Promise<void> {
    for (let outside = this.#outside(); outside.length > 0; outside = this.#outside()) {
      const homes = outside.flatMap((process) => this.#learnHome(process));
      const elsewhere = homes.filter(({ directory }) => directory !== this.#home.path);
      if (elsewhere.length > 0) this.#onHomes?.(elsewhere);
      for (const process of outside) {
        signal?.throwIfAborted();
        this.#take(process);
        await immediate();
      }
      if (performance.now() < deadline) continue;
      const late = this.#outside().length;
      if (late > 0)
        throw new FreezerError('ADOPT_FAILED', {
          pid: this.#pid,
          path: this.path,
          reason: `${late} of its processes were still outside when the time was up`,
        });
    }
  }

  async release(): Promise<void> {
    if (!existsSync(this.path)) return;
    await this.#thaw();
    // What is forked while it is moved is born in the cgroup: again until it is empty, a bounded number of times.
    for (let round = 0, pids = pidsFrom(this.path); pids.length > 0; round++, pids = pidsFrom(this.path)) {
      let failed: unknown;
      for (const pid of pids) {
        const error = this.#giveBack(pid);
        failed ??= error;
        await immediate();
      }
      if (round >= MAX_ROUNDS || (failed !== undefined && round > 0))
        throw new FreezerError('RELEASE_FAILED', { path: this.path, pids: pidsFrom(this.path), cause: failed });
      if (round > 0) await sleep(PAUSE_MS);
    }
    await removeCgroup(this.path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }

  #outside(): ProcessInfo[] {
    const inside = tasksFrom(this.path, this.version);
    return processTree(this.#pid).filter((process) =>
      threadIds(process).some((tid) => !inside.has(tid) && isAlive(tid) && !this.#isInside(tid)),
    );
  }

  /**
   * A tree that forks all the while always has tasks that were born inside after the list of who is inside was read.
   * Such a task is asked for its own cgroup, or the chase of those who are really outside would never end.
   */
  #isInside(tid: number): boolean {
    const name = cgroupNameOf(tid, this.version);
    return name === '' || name === this.#name || name.startsWith(`${this.#name}/`);
  }

  /** Nothing for one that is known, has ended, or was born inside after the list of who is inside was read. */
  #learnHome(process: ProcessInfo): ProcessHome[] {
    const { pid, startTime } = process;
    if (this.#homes.get(pid)?.startTime === startTime) return [];
    return (
      this.#unlessEnded(pid, () => {
        const home = this.#homeOf(process);
        if (home.directory === this.path) return [];
        this.#homes.set(pid, home);
        return [{ pid, startTime, directory: home.directory }];
      }) ?? []
    );
  }

  /** One without a home was born inside: it goes where its parent goes. */
  #take({ pid, startTime }: ProcessInfo): void {
    if (this.#homes.get(pid)?.startTime === startTime) this.#unlessEnded(pid, () => moveProcess(pid, this.path));
  }

  #unlessEnded<T>(pid: number, act: () => T): T | undefined {
    try {
      return act();
    } catch (error) {
      if (isFreezerError(error, 'NO_SUCH_PROCESS') || isFreezerError(error, 'IS_ZOMBIE')) return undefined;
      if (isFreezerError(error, 'ADOPT_FAILED')) throw error;
      throw new FreezerError('ADOPT_FAILED', {
        pid: this.#pid,
        path: this.path,
        reason: `process ${pid} could not be moved`,
        cause: error,
      });
    }
  }

  #homeOf({ pid, startTime }: ProcessInfo): Home {
    const directory = this.#directoryOf(pid);
    refuseThreaded(pid, directory, this.version);
    const threads = new Map<number, string>();
    if (this.version === 1) {
      for (const tid of threadsOf(pid)) {
        const path = this.#directoryOf(tid);
        if (path !== directory) threads.set(tid, path);
      }
    }
    return { startTime, directory, threads };
  }

  /** Each cgroup is looked up once: a big tree is mostly in one. */
  #directoryOf(tid: number): string {
    const name = cgroupNameOf(tid, this.version);
    const known = this.#directories.get(name);
    if (known !== undefined) return known;
    const { path } = cgroupOf(tid, this.version);
    this.#directories.set(name, path);
    return path;
  }

  /** Nothing may stay frozen for want of a cgroup to thaw. */
  async #thaw(): Promise<void> {
    try {
      await openFreezer({ cgroup: this.path }).thaw();
    } catch (error) {
      if (!isFreezerError(error, 'THAW_BLOCKED_BY_ANCESTOR') && !isFreezerError(error, 'CGROUP_GONE')) throw error;
    }
  }

  #giveBack(pid: number): unknown {
    const home = this.#nearestHome(pid);
    try {
      moveProcess(pid, home !== undefined && existsSync(home.directory) ? home.directory : this.#home.path);
      for (const [tid, directory] of home?.threads ?? []) if (threadsOf(pid).includes(tid)) moveThread(tid, directory);
      return undefined;
    } catch (error) {
      return isFreezerError(error, 'NO_SUCH_PROCESS') ? undefined : error;
    }
  }

  #nearestHome(pid: number): Home | undefined {
    for (const ancestor of selfAndAncestors(pid)) {
      const home = this.#homes.get(ancestor.pid);
      // The start time tells a process from a later one that got its pid.
      if (home !== undefined && home.startTime === ancestor.startTime) return home;
    }
    return undefined;
  }
}
