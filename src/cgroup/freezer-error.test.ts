import { expect, test } from 'vitest';
import { FreezerError } from './freezer-error.js';

test('a time-out says which cgroup, which tasks, how it was left, and what to do', () => {
  const task = (pid: number, tid = pid) => ({ pid, tid, name: 'writer', state: 'D', wchan: 'io_schedule', stack: [] });
  const error = new FreezerError('FREEZE_TIMEOUT', {
    path: '/sys/fs/cgroup/job7',
    timeoutMs: 2000,
    tasks: [task(412), task(412, 413)],
    after: 'thawed',
  });
  expect(error.message).toBe(
    'cgroup not frozen after 2000 ms: /sys/fs/cgroup/job7 (pid 412 writer state D in io_schedule, pid 412 tid 413 writer state D in io_schedule); thawed again\n' +
      'Raise `timeoutMs`, or look for a task in uninterruptible sleep: state D waits for a disk, a network file system or a driver.',
  );
});

test('a long list is cut in the message, never in the facts', () => {
  const strangers = Array.from({ length: 30 }, (_, i) => ({ pid: i + 1, name: 'sh', cgroup: '/x' }));
  const error = new FreezerError('CGROUP_HAS_STRANGERS', { pid: 1, path: '/x', strangers });
  expect(error.message).toContain('and 20 more');
  expect(error.facts.strangers).toHaveLength(30);
});
