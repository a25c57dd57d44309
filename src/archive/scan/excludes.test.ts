import { expect, test } from 'vitest';
import { hasTooManyParts, isExcluded, whyNoExclude } from './excludes.js';

const excludes = (pattern: string, path: string): boolean => isExcluded([pattern], Buffer.from(path));

test.each([
  ['cache', 'cache'],
  ['cache/', 'cache/a/b'],
  ['a/b', 'a/b/c'],
  ['*.log', 'x.log'],
  ['*.log', '.log'],
  ['logs/*.log', 'logs/x.log'],
  ['**/*.log', 'x.log'],
  ['**/*.log', 'a/b/x.log'],
  ['**/cache/*', 'a/cache/b'],
  ['**/cache/*', 'cache/b/c'],
  ['a/**/z', 'a/z'],
  ['a/**/z', 'a/b/c/z/y'],
  ['a/**', 'a/b'],
  ['a/**/**/z', 'a/b/z'],
  ['x?z', 'xäz'],
  ['x[a-c]z', 'xbz'],
  ['x[!a-c]z', 'xdz'],
  ['x[]]z', 'x]z'],
  ['x[z', 'x[z'],
  ['\\*', '*'],
  ['a*b*c', 'aXbYbZc'],
  ['*', 'ä'],
])('%j leaves %j out', (pattern, path) => {
  expect(excludes(pattern, path)).toBe(true);
});

test.each([
  ['cache', 'cached'],
  ['cache', 'a/cache'],
  ['a/b', 'a'],
  ['*.log', 'a/x.log'],
  ['a/**', 'a'],
  ['a/**/z', 'a/b'],
  ['x?z', 'xz'],
  ['x[a-c]z', 'xdz'],
  ['x[!a-c]z', 'xbz'],
  ['\\*', 'a'],
  ['a*b*c', 'aXbYbZ'],
])('%j keeps %j', (pattern, path) => {
  expect(excludes(pattern, path)).toBe(false);
});

test('a pattern with many stars takes no time to speak of', () => {
  const started = performance.now();
  expect(excludes(`${'*a'.repeat(60)}b`, 'a'.repeat(255))).toBe(false);
  expect(performance.now() - started).toBeLessThan(1000);
});

test('what can match nothing below a root is refused', () => {
  for (const pattern of ['', '/', '/abs', '../x', 'a/./b', 'a\0b'])
    expect(whyNoExclude(pattern), pattern).toBeDefined();
  for (const pattern of ['a', 'a/', '**', '.hidden', 'a..b']) expect(whyNoExclude(pattern), pattern).toBeUndefined();
});

test('there is an end to how many components are held in mind', () => {
  const most = Array.from({ length: 128 }, (_, i) => `a${i}/b`);
  expect(hasTooManyParts(most)).toBe(false);
  expect(isExcluded(most, Buffer.from('a127/b'))).toBe(true);
  expect(hasTooManyParts([...most, 'c'])).toBe(true);
  expect(() => isExcluded([...most, 'c'], Buffer.from('c'))).toThrow('EINVAL');
});
