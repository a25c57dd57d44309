import { expect, it } from 'vitest';
import { NameCheck, unsafeName } from './names.js';

const LONG = 'x'.repeat(256);
const NAMES = ['.', 'a', 'a/b', 'a/b/c', 'a/b/../c', 'a/b/..', 'a/b/', 'a/b//c', 'a/b/.', 'a/./b', '..', '../a', '/a'];
const MORE = [
  '',
  'a\0',
  'a/b/c\0d',
  'a/b/..c',
  'a/b/c..',
  `a/b/${LONG}`,
  `a/${LONG}/b`,
  `a/b/${LONG.slice(1)}`,
  'ab/c',
  'a/bc',
];

it('is for every name what it is for that name alone, whatever came before', () => {
  const names = [...NAMES, ...MORE].map((name) => Buffer.from(name, 'latin1'));
  for (const first of names)
    for (const second of names) {
      const check = new NameCheck();
      const given = [first, second, first];
      expect(
        given.map((name) => check.unsafe(name)),
        given.join(' | '),
      ).toEqual(given.map(unsafeName));
    }
});
