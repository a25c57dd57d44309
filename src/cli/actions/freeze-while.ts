import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { InvalidArgumentError, type Command } from 'commander';
import {
  findProgram,
  StillframeError,
  whileFrozen,
  type Frozen,
  type FrozenReport,
  type WhatToFreeze,
} from '../../index.js';
import { findCommand } from '../../find-command.js';
import { whenAborted } from '../../when-aborted.js';
import type { WhileOptions } from '../commands/freeze-while.js';
import { containerName, refuseBeside } from '../container-options.js';
import { errorText } from '../error-text.js';
import { json, milliseconds } from '../output.js';
import { printError } from '../streams.js';

/** Exit statuses beside those of COMMAND, as timeout(1) and env(1) have them. */
const EXIT_LATE = 124;
const EXIT_NOT_FROZEN = 125;
const EXIT_NOT_EXECUTABLE = 126;
const EXIT_NOT_FOUND = 127;

/** How long COMMAND may take to end after the deadline, before it is killed, in milliseconds. The tree runs by then. */
const END_MS = 5000;

const FORWARDED = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2'] as const;

/** Runs a command line while what the options name stands still; sets this process's exit status. */
export async function freezeWhile(
  [name, ...args]: readonly string[],
  options: WhileOptions,
  signal: AbortSignal,
  own: Command,
): Promise<void> {
  const what = whatToFreeze(options);
  if (name === undefined || name === '')
    throw new InvalidArgumentError('Give the command to run: freeze --while ... -- COMMAND ARG...');
  // A misspelt command is none to stand still for.
  const { problem: missing } = findCommand(name);
  if (missing !== undefined) {
    printError(`stillframe: cannot run ${name}: ${missing}; nothing was frozen`);
    process.exitCode = statusOf(missing);
    return;
  }
  // Until COMMAND runs, a signal cancels; from then on it is COMMAND's.
  const cancel = new AbortController();
  const program = new FrozenCommand(name, args);
  const forget = whenAborted(signal, () => {
    if (!program.isStarted) cancel.abort(signal.reason);
  });
  try {
    const report = await whileFrozen(
      {
        ...what,
        maxFrozenMs: options.maxFrozen,
        freezeTimeoutMs: options.timeout,
        stateDir: options.stateDir,
        placeGuardianIn: options.placeGuardianIn,
        signal: cancel.signal,
      },
      (frozen) => program.run(frozen),
    );
    printError(options.json === true ? json(report) : reportText(report));
    process.exitCode = report.result;
  } catch (error) {
    await program.end();
    if (cancel.signal.aborted) throw error;
    printError(errorText(error, options.json === true, own));
    process.exitCode = failureStatus(error);
  } finally {
    forget();
  }
}

function whatToFreeze(options: WhileOptions): WhatToFreeze {
  const container = containerName(options);
  const { pid, cgroup, freezer: cgroupVersion, adopt } = options;
  if (container !== undefined) {
    refuseBeside('a container', options, ['pid', 'name', 'cgroup', 'freezer', 'adopt']);
    return container as WhatToFreeze;
  }
  if (options.name !== undefined) {
    refuseBeside('--name', options, ['pid', 'cgroup', 'freezer', 'adopt', 'stateRoot']);
    const { target } = findProgram(options.name, { stateDir: options.stateDir });
    return { pid: target.pid, cgroup: target.cgroup };
  }
  if (pid !== undefined) return { pid, cgroup, cgroupVersion, adopt };
  if (cgroup === undefined)
    throw new InvalidArgumentError('Specify what to freeze: --pid, --name, --cgroup, --runc, --crun or --podman.');
  refuseBeside('--cgroup without --pid', options, ['freezer', 'adopt', 'stateRoot']);
  return { cgroup };
}

/** COMMAND, with our standard streams. */
class FrozenCommand {
  readonly #name: string;
  readonly #args: readonly string[];
  #child: ChildProcess | undefined;

  constructor(name: string, args: readonly string[]) {
    this.#name = name;
    this.#args = args;
  }

  get isStarted(): boolean {
    return this.#child !== undefined;
  }

  /** Resolves with its exit status, as a shell has it. */
  async run({ pid, cgroup, signal }: Frozen): Promise<number> {
    const env = {
      ...process.env,
      STILLFRAME_CGROUP: cgroup.path,
      ...(pid === undefined ? {} : { STILLFRAME_PID: String(pid) }),
    };
    const child = spawn(this.#name, this.#args, { stdio: 'inherit', env });
    this.#child = child;
    const ended = once(child, 'exit');
    const forward = (name: NodeJS.Signals): void => {
      if (!(name === 'SIGINT' || name === 'SIGQUIT') || !isInForeground()) child.kill(name);
    };
    const forget = whenAborted(signal, () => void child.kill('SIGTERM'));
    for (const name of FORWARDED) process.on(name, forward);
    try {
      const [code, by] = (await ended) as [number | null, NodeJS.Signals | null];
      return code ?? 128 + constants.signals[by as NodeJS.Signals];
    } finally {
      forget();
      for (const name of FORWARDED) process.off(name, forward);
    }
  }

  /** Waits for the end of one that was left behind at the deadline. */
  async end(): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    const isOver = await Promise.race([ended.then(() => true), sleep(END_MS, false, { ref: false })]);
    if (isOver) return;
    child.kill('SIGKILL');
    await ended;
  }
}

/**
 * A terminal sends Ctrl-C to every process of its foreground group: COMMAND, which is in ours, has had it already.
 * Source: proc(5), /proc/PID/stat, pgrp (5) and tpgid (8).
 */
function isInForeground(): boolean {
  const fields = readFileSync('/proc/self/stat', 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ');
  return fields[2] === fields[5];
}

function statusOf(errno: string): number {
  return errno === 'ENOENT' ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

function failureStatus(error: unknown): number {
  const { code, syscall } = error as { code?: string; syscall?: string };
  if (!(error instanceof StillframeError) && syscall?.startsWith('spawn') === true) return statusOf(String(code));
  return code === 'DEADLINE_EXCEEDED' ? EXIT_LATE : EXIT_NOT_FROZEN;
}

function reportText({ windowMs, pids, cgroup, foundFrozen }: FrozenReport<number>): string {
  const left = foundFrozen ? '; it was frozen before, and still is' : '';
  return `frozen for ${milliseconds(windowMs)}: ${pids.length} ${pids.length === 1 ? 'process' : 'processes'} in ${cgroup.path}${left}`;
}
