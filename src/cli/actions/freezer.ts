import type { Command } from 'commander';
import {
  findProgram,
  frozenCgroups,
  openFreezer,
  type Freezer,
  type FreezerState,
  type FreezerTarget,
} from '../../index.js';
import { recoverCommandFor, STATE_DIR } from '../../state-dir.js';
import { facts, json } from '../output.js';
import { table } from '../table.js';
import { print } from '../streams.js';

/** What commander hands over. */
export interface FreezerFlags {
  pid?: number;
  name?: string;
  freezer?: 1 | 2;
  timeout?: number;
  all?: boolean;
  stateDir?: string;
  json?: boolean;
}

/** What the three commands do to a cgroup before they show its state. */
const ACTS: Readonly<
  Record<string, (freezer: Freezer, timeoutMs: number | undefined, signal: AbortSignal) => unknown>
> = {
  freeze: (freezer, timeoutMs, signal) => freezer.freeze({ timeoutMs, signal }),
  thaw: (freezer, timeoutMs) => freezer.thaw({ timeoutMs }),
};

export async function freezerAction(
  cgroup: string | undefined,
  options: FreezerFlags,
  signal: AbortSignal,
  command: Command,
): Promise<void> {
  const name = command.name();
  const { pid } = options;
  if (options.all === true || (name === 'status' && [cgroup, pid, options.name].every((it) => it === undefined))) {
    await printAllFrozen(options.json === true, options.stateDir);
    return;
  }
  if ([cgroup, pid, options.name].filter((it) => it !== undefined).length !== 1)
    command.error('error: give one of a cgroup, --pid and --name');
  const freezer = openFreezer(whose(cgroup, options));
  await ACTS[name]?.(freezer, options.timeout, signal);
  print(
    options.json === true
      ? json({ cgroup: freezer.path, version: freezer.version, ...freezer.state() })
      : stateText(freezer, freezer.state()),
  );
}

function whose(cgroup: string | undefined, { pid, name, freezer: version, stateDir }: FreezerFlags): FreezerTarget {
  if (cgroup !== undefined) return { cgroup };
  if (name === undefined) return { pid: pid!, version };
  const program = findProgram(name, { stateDir });
  return program.cgroup === undefined ? { pid: program.pid, version } : { cgroup: program.cgroup };
}

async function printAllFrozen(asJson: boolean, stateDir: string | undefined): Promise<void> {
  const frozen = await frozenCgroups({ stateDir });
  if (asJson) print(json(frozen));
  else if (frozen.length === 0) print('no cgroup of this machine is frozen');
  else {
    const by = (owner: (typeof frozen)[number]['by']): string =>
      owner === undefined
        ? 'not by stillframe'
        : `stillframe ${owner.pid}${owner.targetPid === undefined ? '' : `, for ${owner.targetPid}`}${owner.isAlive ? '' : ` (dead: run ${recoverCommandFor(stateDir ?? STATE_DIR)})`}`;
    print(
      table(
        ['cgroup', 'freezer', 'frozen by', 'since'],
        frozen.map((f) => [f.path, `v${f.version}`, by(f.by), f.since ?? 'not known']),
      ),
    );
  }
}

function stateText(freezer: Freezer, state: FreezerState): string {
  return facts([
    ['cgroup', `${freezer.path} (v${freezer.version})`],
    ['frozen', state.frozen ? 'yes' : 'no'],
    [
      'asked for by',
      [
        ...(state.selfFrozen ? ['itself'] : []),
        ...(state.frozenAncestor === undefined ? [] : [`its ancestor ${state.frozenAncestor}`]),
      ].join(' and ') || 'nobody',
    ],
  ]);
}
