import { closeSync, constants, existsSync, fstatSync, openSync } from 'node:fs';
import { isatty } from 'node:tty';
import { builtPaths } from '../../installed.js';
import { native, NativeError } from '../../native.js';

/** Documentation/admin-guide/devices.txt, Linux v6.12: major 5, minor 2. */
const PTMX = 0x502;

/** Why CRIU could not give a restored tree this as its terminal; undefined when it can. */
export function terminalProblem(fd: unknown): string | undefined {
  if (typeof fd !== 'number' || !Number.isInteger(fd) || !isatty(fd))
    return `${String(fd)} is not the descriptor of a terminal`;
  if (fstatSync(fd).rdev === PTMX)
    return `${fd} is the master of a terminal: the other side of it is what a program has`;
  try {
    closeSync(openSync(`/proc/self/fd/${fd}`, constants.O_RDWR | constants.O_NOCTTY));
    return undefined;
  } catch (error) {
    return `${fd} cannot be opened anew, which CRIU has to: ${(error as Error).message}`;
  }
}

/** Whether it is the controlling terminal of this process. */
export function isOurTerminal(fd: number): boolean {
  try {
    return native().tcgetsid(fd) >= 0;
  } catch {
    return false;
  }
}

/**
 * What CRIU's process becomes once it has restored a tree into a session that it leads: a program that ends when its
 * child, the tree's root, has ended, with its status. Without it the kernel hangs the tree up at CRIU's end.
 * @throws NativeError NATIVE_MISSING
 */
export function sessionHolder(): string[] {
  const tried = builtPaths('stillframe-hold-session');
  const path = tried.find((path) => existsSync(path));
  if (path === undefined) throw new NativeError('NATIVE_MISSING', { tried });
  return [path];
}
