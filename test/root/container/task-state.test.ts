/** What CRIU does not bring back of a container's tasks: named at the checkpoint, compared by their new pids after. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { runningPids } from '../../../src/checkpoint/base/pids.js';
import { checkpointContainer, restoreContainer } from '../../../src/container/index.js';
import type { TaskState, Warning } from '../../../src/index.js';
import { Bundle, makeImage, newId, RuncContainer } from '../../fixtures/container.js';
import { until } from '../../fixtures/processes.js';

let scratch: string;
let image: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const statesLost = (warnings: readonly Warning[]): TaskState[] =>
  warnings.flatMap((each) => (each.code === 'STATE_LOST' ? each.facts.states : []));

const filterOf = (pid: number | string): string => `/proc/${pid}/coredump_filter`;
const OURS = readFileSync(filterOf('self'), 'latin1').trim();
const ANOTHERS = '0000007f';

async function childOf(pid: number): Promise<number> {
  expect(await until(() => runningPids(pid).length === 2)).toBe(true);
  return runningPids(pid)[1] as number;
}

it(
  'is named with the pid that the task has now, unless the restored task has it after all',
  { timeout: 180_000 },
  async () => {
    const archive = join(scratch, 'archive.tar');
    await using bundle = new Bundle(image, { args: ['sh', '-c', 'sleep 1000 & wait'] });
    await using container = await RuncContainer.run(bundle);
    const child = await childOf((await container.state()).pid);
    writeFileSync(filterOf(child), `0x${ANOTHERS}`);
    const inside = Number(/^NSpid:.*\t(\d+)$/m.exec(readFileSync(`/proc/${child}/status`, 'latin1'))?.[1]);
    const { runc, stateRoot } = { runc: container.id, stateRoot: container.stateRoot };
    const { warnings } = await checkpointContainer({ runc, stateRoot, output: archive, stop: true });
    const state = { what: 'coredump_filter', value: ANOTHERS, inside: { pid: inside, tid: inside } };
    expect(statesLost(warnings)).toEqual([{ pid: child, tid: child, ...state }]);
    await container.end();

    const restored = async (strict: boolean): Promise<{ states: TaskState[]; child: number }> => {
      await using second = new Bundle(image);
      await using again = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
      const place = { runc: again.id, stateRoot: again.stateRoot, bundle: second.dir, archive, strict };
      const report = await restoreContainer(place);
      return { states: statesLost(report.warnings), child: await childOf(report.pid) };
    };
    await expect(restored(true)).rejects.toMatchObject({ code: 'WARNINGS_REFUSED' });
    const first = await restored(false);
    expect(first.states).toEqual([{ pid: first.child, tid: first.child, ...state }]);
    expect(first.child).not.toBe(child);

    // A restored task has what CRIU has, and CRIU what this process has.
    writeFileSync(filterOf('self'), `0x${ANOTHERS}`);
    onTestFinished(() => writeFileSync(filterOf('self'), `0x${OURS}`));
    expect((await restored(true)).states).toEqual([]);
  },
);
