import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Semaphore } from './semaphore.js';

test('jobs run a few at a time, in the order of the calls, whether they fail or not', async () => {
  const semaphore = new Semaphore(2);
  let running = 0;
  let most = 0;
  const begun: number[] = [];
  const jobs = Array.from({ length: 9 }, (_, i) =>
    semaphore.run(async () => {
      begun.push(i);
      most = Math.max(most, ++running);
      await sleep(1);
      running--;
      if (i % 3 === 0) throw new Error(`job ${i}`);
      return i;
    }),
  );
  expect(semaphore.idle).toBe(false);
  const ends = await Promise.allSettled(jobs);
  expect(ends.map(({ status }) => status)).toEqual(begun.map((i) => (i % 3 === 0 ? 'rejected' : 'fulfilled')));
  expect(begun).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  expect(most).toBe(2);
  expect(semaphore.idle).toBe(true);
});
