import { expect, test } from 'vitest';
import { byteCount, duration, tree } from './arguments.js';

test.each([
  ['data=/srv/app', ['data', '/srv/app']],
  ['data=srv', ['data', 'srv']],
  ['/srv/app=data', ['data', '/srv/app']],
  ['./app=data', ['data', './app']],
  ['/srv/app', ['app', '/srv/app']],
  ['app/', ['app', 'app/']],
  ['data=/srv/a=b', ['data', '/srv/a=b']],
  ['/srv/a=b=data', ['data', '/srv/a=b']],
])('--files %s', (text, expected) => {
  expect(tree(text)).toEqual([expected]);
});

test('--files that names nothing is refused', () => {
  for (const text of ['/', '/x=', '=x', 'x=']) expect(() => tree(text), text).toThrow('NAME=DIR');
});

test.each([
  ['500', 500],
  ['500ms', 500],
  ['5s', 5000],
  ['1.5s', 1500],
  ['2m', 120_000],
  ['1h', 3_600_000],
])('a time of %s', (text, ms) => {
  expect(duration(text)).toBe(ms);
});

test.each([
  ['65536', 65_536],
  ['64K', 1 << 16],
  ['16M', 1 << 24],
  ['16MiB', 1 << 24],
  ['1G', 1 << 30],
])('a size of %s', (text, bytes) => {
  expect(byteCount(text)).toBe(bytes);
});

test('other times and sizes are refused', () => {
  for (const text of ['', '-1', '5d', '5 s', '0', 'x']) expect(() => duration(text), text).toThrow('Give a time');
  for (const text of ['', '-1', '16MB', '1.5M', '0', 'x'])
    expect(() => byteCount(text), text).toThrow('Give an amount');
});
