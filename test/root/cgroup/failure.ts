import { FreezerError } from '../../../src/cgroup/index.js';

/** The FreezerError that a promise rejects with or a function throws; anything else fails the test. */
export async function failure(action: Promise<unknown> | (() => unknown)): Promise<FreezerError> {
  try {
    await (typeof action === 'function' ? action() : action);
  } catch (error) {
    if (error instanceof FreezerError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}
