import { errnoOf } from '../../errors.js';

const errnos = ['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN'];

/** Whether this process or system has no more of something, whatever was asked for. */
export function isShortage(error: unknown): boolean {
  return errnos.includes(errnoOf(error) ?? '');
}
