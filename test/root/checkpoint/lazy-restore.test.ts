import { afterEach, beforeEach, expect, it } from 'vitest';
import { checkpoint, restore, type PhaseEvent } from '../../../src/index.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';

let writer: BusyWriter;
beforeEach(async () => {
  writer = await BusyWriter.start(freezerVersions()[0] ?? 'v2', { workers: 2, memoryMiB: 32 });
});
afterEach(() => writer[Symbol.asyncDispose]());

it('lets a tree run before its memory is there, and all of it comes right', async () => {
  await checkpoint({ pid: writer.pid, files: [{ path: writer.data, name: 'data' }], output: writer.path('a.tar') });
  await writer.destroy();
  const events: PhaseEvent[] = [];
  const report = await restore({
    archive: writer.path('a.tar'),
    lazyPages: true,
    onProgress: (event) => void events.push(event),
  });
  expect(report.pid).toBe(writer.pid);
  const ends = events.filter(({ at }) => at === 'end').map(({ phase }) => phase);
  expect(ends.indexOf('thaw')).toBeLessThan(ends.indexOf('lazy-pages'));
  expect(ends).toContain('lazy-pages');
  // The workload checks its own memory at every step.
  expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
  expect(writer.leftovers()).toEqual(['a.tar']);
});

it('leaves nothing when it is cancelled while the memory comes', async () => {
  await checkpoint({ pid: writer.pid, files: [{ path: writer.data, name: 'data' }], output: writer.path('a.tar') });
  await writer.destroy();
  const controller = new AbortController();
  const reason = new Error('enough');
  const onProgress = ({ phase, at }: PhaseEvent): void => {
    if (phase === 'lazy-pages' && at === 'start') controller.abort(reason);
  };
  await expect(
    restore({ archive: writer.path('a.tar'), lazyPages: true, onProgress, signal: controller.signal }),
  ).rejects.toBe(reason);
  expect(writer.pids).toEqual([]);
  expect(writer.leftovers()).toEqual(['a.tar']);
});
