import { expect, test } from 'vitest';
import { parseStat } from './task.js';

test('parseStat ends a name at the last parenthesis, whatever it holds', () => {
  const rest = 'S 1 412 412 0 -1 4194560 127 0 1 0 0 0 0 0 20 0 1 0 987654321 1 2';
  expect(parseStat(`412 (a) R 9 (\n) ${rest}`)).toEqual({
    pid: 412,
    name: 'a) R 9 (\n',
    state: 'S',
    ppid: 1,
    group: 412,
    session: 412,
    isKernelThread: false,
    isExiting: false,
    threadCount: 1,
    startTime: 987654321n,
  });
});

test('parseStat knows a kernel thread by its flag', () => {
  expect(parseStat('2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0').isKernelThread).toBe(true);
});
