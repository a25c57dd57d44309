import { CriuError } from '../errors/criu-error.js';
import { readPstree } from '../images/pstree.js';
import { identify } from '../../proc/identity.js';
import { criuErrorOf } from './exchange.js';

/**
 * The pid that the root of these images will have as our child (`rstSibling`), if it is free now: asked right before
 * CRIU makes it. No notification tells it before `setup-namespaces`, or without namespaces before `post-restore`; in a
 * pid namespace of its own the root has another, but is told of early.
 */
export async function siblingToBe(imagesDir: string | number): Promise<number | undefined> {
  try {
    const [root] = await readPstree(typeof imagesDir === 'number' ? `/proc/self/fd/${imagesDir}` : imagesDir);
    return root === undefined || identify(root.pid) !== undefined ? undefined : root.pid;
  } catch {
    return undefined; // CRIU will say what is wrong with the images
  }
}

/** Taken in the very moment between our look and CRIU's fork: whose it is is not known. */
export function pidWasTaken(error: unknown): boolean {
  const criuError = error instanceof CriuError ? error : criuErrorOf(error);
  return criuError?.facts.crErrnoName === 'EEXIST';
}
