import { expect, test } from 'vitest';
import { json } from './output.js';

test('JSON has times to the microsecond, and integers of any size as they are', () => {
  const value = { windowMs: 80.2792159999999, bytes: 2 ** 40, ino: 12n, id: 2n ** 64n, none: undefined };
  expect(json(value, 0)).toBe('{"windowMs":80.279,"bytes":1099511627776,"ino":12,"id":"18446744073709551616"}');
});
