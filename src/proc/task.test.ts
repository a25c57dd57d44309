import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, onTestFinished, test } from 'vitest';
import { hasFatalSignal, parseStat, readProc, readProcess } from './task.js';

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

test.each([
  ['by default', '', true],
  ['unless it is ignored', 'trap "" QUIT; ', false],
])('a signal that waits for a stopped process ends it %s', async (_, prelude, fatal) => {
  const child = spawn('sh', ['-c', `${prelude}exec sleep 1000`], { stdio: 'ignore' });
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child, 'spawn');
  const pid = child.pid as number;
  const reached = async (isSo: () => boolean): Promise<void> => {
    while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 1));
  };
  await reached(() => readProcess(pid)?.name === 'sleep');
  expect(hasFatalSignal(pid)).toBe(false);
  child.kill('SIGSTOP');
  await reached(() => readProcess(pid)?.state === 'T');
  child.kill('SIGQUIT');
  // What is ignored does not wait.
  if (fatal) await reached(() => /^ShdPnd:\s*0*4$/m.test(readProc(`${pid}/status`) ?? ''));
  expect(hasFatalSignal(pid)).toBe(fatal);
});
