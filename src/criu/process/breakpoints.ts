/**
 * CRIU before 4.2 stops tasks at hardware breakpoints, which many virtual machines take and never report: it then waits
 * for ever at the end of a dump, with the tasks held. 4.2 tries them out first (criu/kerndat.c,
 * kerndat_has_breakpoints). CRIU_FAULT=130 has an older one do without them (criu/include/fault-injection.h,
 * FI_NO_BREAKPOINTS), which costs it a stop at each system call of what it injects. Seen with 4.1.1.
 */
import { isVirtualMachine } from '../../proc/virtual-machine.js';

const TRIES_BREAKPOINTS = 40200;
const older = new Set<string>();

/** What its version is, as soon as anybody has asked. */
export function knowVersion(criuPath: string, versionNumber: number): void {
  if (versionNumber < TRIES_BREAKPOINTS) older.add(criuPath);
  else older.delete(criuPath);
}

/** The environment for a CRIU or for what starts it; undefined for ours. A CRIU_FAULT of the user's stays. */
export function criuEnvironment(criuPath: string, env?: NodeJS.ProcessEnv): NodeJS.ProcessEnv | undefined {
  if (!older.has(criuPath) || !isVirtualMachine()) return env;
  return { CRIU_FAULT: '130', ...(env ?? process.env) };
}
