import { expect, test } from 'vitest';
import { readVersion } from './version.js';

test.each([
  [{ majorNumber: 4, minorNumber: 1, sublevel: 1 }, '4.1.1', 40101],
  [{ majorNumber: 4, minorNumber: 2, sublevel: 1, gitid: 'v4.2.1' }, '4.2.1', 40201],
  [{ majorNumber: 4, minorNumber: 2, gitid: 'v4.2' }, '4.2', 40200],
  // Built between two releases: it may know all that the next one will.
  [{ majorNumber: 4, minorNumber: 2, gitid: 'v4.2-300-gabcdef012' }, '4.2', 40300],
  [{ majorNumber: 4, minorNumber: 2, sublevel: 1, gitid: 'abcdef012' }, '4.2.1', 40300],
])('%j is %s, and counts as %i', (wire, text, versionNumber) => {
  expect(readVersion(wire)).toMatchObject({ text, versionNumber });
});
