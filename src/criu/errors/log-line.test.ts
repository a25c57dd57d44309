import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lastErrors, parseLogLine, readLastErrors } from './log-line.js';

test.each([
  [
    '(00.012345) Error (criu/files-reg.c:2105): File x has bad size',
    { timeS: 0.012345, level: 'error', text: 'Error (criu/files-reg.c:2105): File x has bad size' },
  ],
  [
    '(01.000002)     57: Error (criu/cr-restore.c:1): no',
    { timeS: 1.000002, pid: 57, level: 'error', text: 'Error (criu/cr-restore.c:1): no' },
  ],
  ['(12.000002)   4057: pie: 4057: done', { timeS: 12.000002, pid: 4057, level: 'info', text: 'pie: 4057: done' }],
  [
    '(00.2) pie: 57: Error (criu/pie/parasite.c:588): send_fds failed (-22)',
    { timeS: 0.2, level: 'error', text: 'pie: 57: Error (criu/pie/parasite.c:588): send_fds failed (-22)' },
  ],
  ['Warn  (criu/kerndat.c:1): no cache', { level: 'warning', text: 'Warn  (criu/kerndat.c:1): no cache' }],
  ['Error (criu/cr-service.c:121): no', { level: 'error', text: 'Error (criu/cr-service.c:121): no' }],
  ['', { level: 'info', text: '' }],
])('%j is parsed', (line, parsed) => {
  expect(parseLogLine(line)).toEqual(parsed);
});

test('the last errors come oldest first', () => {
  expect(lastErrors('Error (a:1): 1\n(00.000001) fine\nError (a:2): 2\nError (a:3): 3\n', 2)).toEqual([
    'Error (a:2): 2',
    'Error (a:3): 3',
  ]);
});

test('of the warnings only the one that says why a task could not be stopped is among them', () => {
  const interrupt = 'Warn  (compel/src/lib/infect.c:133): Unable to interrupt task: 5 (Operation not permitted)';
  expect(lastErrors(`Warn  (criu/kerndat.c:1): no cache\n(00.000001) ${interrupt}\nError (a:1): 1\n`)).toEqual([
    interrupt,
    'Error (a:1): 1',
  ]);
});

test('of a message that was cut short the NULs are left out', () => {
  expect(lastErrors('Error (criu/net.c:4023\0\0\0\nError (a:1): 1\n')).toEqual([
    'Error (criu/net.c:4023',
    'Error (a:1): 1',
  ]);
});

test('of a huge log only the end is read, and none of a missing one', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'stillframe-test-log-'));
  const path = join(dir, 'x.log');
  await writeFile(path, `Error (a:1): early\n${'x'.repeat(1_000_000)}\nError (a:2): late\n`);
  expect(await readLastErrors(path)).toEqual(['Error (a:2): late']);
  await rm(dir, { recursive: true });
  expect(await readLastErrors(path)).toEqual([]);
});
