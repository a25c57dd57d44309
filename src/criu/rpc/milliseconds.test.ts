import { expect, test } from 'vitest';
import { requireMs } from './milliseconds.js';

test.each([undefined, 0, 0.5, 2 ** 31 - 1])('%s is a time that a timer can hold, or none', (ms) => {
  expect(requireMs('timeoutMs', ms)).toBeUndefined();
});

test.each([-1, 2 ** 31, 3e9, Infinity, NaN, '5' as never, null as never])(
  '%s is not, and would be over at once',
  (ms) => {
    expect(() => requireMs('timeoutMs', ms)).toThrow(
      expect.objectContaining({ code: 'BAD_OPTION', facts: expect.objectContaining({ option: 'timeoutMs' }) }),
    );
  },
);
