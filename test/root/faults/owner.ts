/** Owners to be killed, and what a test asks about the rest of the world after that. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readProcess } from '../../../src/proc/task.js';
import { endChild, until } from '../../fixtures/processes.js';
import { endsWithTest } from '../../fixtures/ends-with-test.js';
import { removeScratch } from '../../fixtures/remove-scratch.js';

export interface OwnerPlan {
  /** The target. */
  pid: number;
  cgroup?: { version: 1 | 2; path: string; adoptedFrom?: string };
  stateDir: string;
  /** Default true. */
  guardian?: boolean;
  /** Freeze the cgroup. */
  freeze?: boolean;
  /** Private directories to make, with a file two levels down. */
  make?: string[];
  /** A cgroup to make, empty, as for an adoption. */
  newCgroup?: string;
  /** Processes of an adopted tree that came from elsewhere. */
  homes?: { pid: number; directory: string }[];
  /** A command that stands in for a CRIU that does not behave. */
  criu?: string[];
  criuTimeoutMs?: number;
  placeGuardianIn?: string;
  /** Let a child inherit the guardian's socket. */
  leakSocket?: boolean;
}

export interface Owner {
  child: ChildProcess;
  pid: number;
  guardian: number;
  journal: string;
  criu: number;
}

/** Resolves when it has done what the plan says. */
export async function startOwner(plan: OwnerPlan): Promise<Owner> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('owner.mjs', import.meta.url)), JSON.stringify(plan)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  endsWithTest({ [Symbol.asyncDispose]: () => endChild(child) });
  let said = '';
  let failed = '';
  child.stdout.on('data', (text) => (said += String(text)));
  child.stderr.on('data', (text) => (failed += String(text)));
  await until(() => said.includes('\n') || child.exitCode !== null, 30_000);
  if (!said.includes('\n')) throw new Error(`the owner did not start: ${failed}`);
  return { child, pid: child.pid as number, ...(JSON.parse(said) as Pick<Owner, 'guardian' | 'journal' | 'criu'>) };
}

/**
 * Stands in for a CRIU that has forked, as the real one does for moments while it looks at the kernel. Its children:
 * one as CRIU's own are, at work in its private directory; one that is elsewhere; and one of another session.
 */
export function parentOfThree(dir: string): string[] {
  return ['sh', '-c', `cd ${dir}; sleep 60 & (cd /; exec sleep 60) & setsid sleep 60 & wait`];
}

/** SIGKILL to a CRIU of `parentOfThree`; its children, which are orphans then. */
export async function killParentOfThree(criu: number): Promise<number[]> {
  const children = (): number[] =>
    readFileSync(`/proc/${criu}/task/${criu}/children`, 'latin1').split(' ').filter(Boolean).map(Number);
  const isSleeping = (pid: number): boolean => readProcess(pid)?.name === 'sleep';
  if (!(await until(() => children().length === 3 && children().every(isSleeping)))) throw new Error('it did not fork');
  const orphans = children();
  process.kill(criu, 'SIGKILL');
  return orphans;
}

/** SIGKILL, and wait until it is reaped. */
export async function killOwner(owner: Owner): Promise<void> {
  await endChild(owner.child);
}

export function isRunning(pid: number): boolean {
  const state = readProcess(pid)?.state;
  return state !== undefined && state !== 'Z' && state !== 'X';
}

/** A state directory for one test, so that nothing on the machine is touched or in the way. */
export class TestState implements Disposable {
  readonly scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  readonly dir = join(this.scratch, 'state');

  journals(): string[] {
    try {
      // Which CRIU has worked is remembered beside them.
      return readdirSync(this.dir).filter((name) => name.includes('.json') && !name.startsWith('criu.'));
    } catch {
      return [];
    }
  }

  log(): string {
    try {
      return readFileSync(join(this.dir, 'guardian.log'), 'utf8');
    } catch {
      return '';
    }
  }

  path(name: string): string {
    return join(this.scratch, name);
  }

  [Symbol.dispose](): void {
    removeScratch(this.scratch);
  }
}

export const numberOf = (version: 'v1' | 'v2'): 1 | 2 => (version === 'v1' ? 1 : 2);
