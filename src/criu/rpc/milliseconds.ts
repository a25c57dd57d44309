import { CriuError } from '../errors/criu-error.js';

/** The most that Node's setTimeout can hold: it makes 1 ms of anything more, of Infinity and of NaN. */
const LONGEST_MS = 0x7fff_ffff;

/** @throws CriuError BAD_OPTION unless `ms` is undefined or a number from 0 to 2147483647 */
export function requireMs(option: string, ms: number | undefined): void {
  if (ms === undefined || (typeof ms === 'number' && ms >= 0 && ms <= LONGEST_MS)) return;
  throw new CriuError('BAD_OPTION', {
    option,
    reason: `${String(ms)} is not a number of milliseconds from 0 to ${LONGEST_MS}`,
  });
}
