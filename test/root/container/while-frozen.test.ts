import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { whileFrozen } from '../../../src/index.js';
import {
  Bundle,
  launch,
  makeImage,
  newId,
  parentCgroup,
  RuncContainer,
  WELL,
  WRITER_ARGS,
  WriterInContainer,
} from '../../fixtures/container.js';
import { until } from '../../fixtures/processes.js';

let scratch: string;
let image: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const named = ({ id, stateRoot }: RuncContainer): { runc: string; stateRoot: string } => ({ runc: id, stateRoot });
const statusOf = (bundle: Bundle): string => join(bundle.rootfs, 'data/status');
const writerOf = (bundle: Bundle): WriterInContainer => new WriterInContainer(statusOf(bundle));

/** Whether these files stay as they are for a third of a second, in which a writer would write hundreds of times. */
async function standStill(...paths: string[]): Promise<boolean> {
  const look = (): string[] => paths.map((path) => `${readFileSync(path, 'latin1')} ${statSync(path).mtimeMs}`);
  const before = look();
  await sleep(300);
  return look().join() === before.join();
}

describe('whileFrozen of a container', () => {
  it('lets it stand still with the commands that were sent into it, and run afterwards', async () => {
    await using bundle = new Bundle(image, { args: WRITER_ARGS });
    await using container = await RuncContainer.run(bundle);
    await writerOf(bundle).started();
    const sent = join(bundle.rootfs, 'data/sent');
    const loop = 'i=0; while :; do i=$((i+1)); echo $i > /data/sent; done';
    await launch('--root', container.stateRoot, 'exec', '--detach', container.id, 'sh', '-c', loop);
    expect(await until(() => existsSync(sent))).toBe(true);

    const { pid } = await container.state();
    const report = await whileFrozen(named(container), async (frozen) => {
      expect(frozen.pids).toContain(pid);
      expect(frozen.pids.length).toBeGreaterThan(1);
      return standStill(statusOf(bundle), sent);
    });
    expect(report.result).toBe(true);
    expect(await writerOf(bundle).isWell()).toEqual(WELL);
    expect(await standStill(sent)).toBe(false);
    expect((await container.state()).status).toBe('running');
  });

  it('thaws it when the callback throws, and at the deadline', async () => {
    await using bundle = new Bundle(image, { args: WRITER_ARGS });
    await using container = await RuncContainer.run(bundle);
    await writerOf(bundle).started();
    const failing = whileFrozen(named(container), () => {
      throw new Error('the work failed');
    });
    await expect(failing).rejects.toThrow('the work failed');
    expect(await writerOf(bundle).isWell()).toEqual(WELL);
    const late = whileFrozen({ ...named(container), maxFrozenMs: 200 }, () => sleep(60_000, undefined, { ref: false }));
    await expect(late).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    expect(await writerOf(bundle).isWell()).toEqual(WELL);
  });

  it('says which container is not there', async () => {
    const missing = whileFrozen({ runc: newId(), stateRoot: scratch }, () => undefined);
    await expect(missing).rejects.toMatchObject({ name: 'ContainerError', code: 'NO_SUCH_CONTAINER' });
  });
});

it('whileFrozen of the cgroup of a pod lets all of its containers stand still together', async () => {
  await using pod = parentCgroup();
  await using a = new Bundle(image, { args: WRITER_ARGS, cgroup: `${pod.name}/a` });
  await using b = new Bundle(image, { args: WRITER_ARGS, cgroup: `${pod.name}/b` });
  await using first = await RuncContainer.run(a);
  await using second = await RuncContainer.run(b, { stateRoot: a.dir });
  for (const bundle of [a, b]) await writerOf(bundle).started();
  const root = existsSync('/sys/fs/cgroup/freezer') ? '/sys/fs/cgroup/freezer' : '/sys/fs/cgroup';
  const { result } = await whileFrozen({ cgroup: `${root}${pod.name}` }, async ({ pids }) => {
    for (const container of [first, second]) expect(pids).toContain((await container.state()).pid);
    return standStill(statusOf(a), statusOf(b));
  });
  expect(result).toBe(true);
  for (const bundle of [a, b]) expect(await writerOf(bundle).isWell()).toEqual(WELL);
});
