import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { openArchive, verifyArchive } from '../../../src/archive/index.js';
import { checkpointContainer, checkpointPod, restoreContainer } from '../../../src/container/index.js';
import { recover } from '../../../src/index.js';
import { childrenOf } from '../../../src/proc/children.js';
import { readProcess } from '../../../src/proc/task.js';
import {
  Bundle,
  criuEnvironment,
  makeImage,
  newId,
  RuncContainer,
  WELL,
  WRITER_ARGS,
  WriterInContainer,
} from '../../fixtures/container.js';
import { endChild, until } from '../../fixtures/processes.js';
import { unmount } from '../../fixtures/unmount.js';

let scratch: string;
let image: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A program that makes one call, to be killed. */
async function startVictim(plan: object): Promise<ChildProcess> {
  const path = fileURLToPath(new URL('../faults/victim.mjs', import.meta.url));
  const child = spawn(process.execPath, [path, JSON.stringify(plan)], {
    env: await criuEnvironment(),
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  onTestFinished(() => endChild(child));
  child.stdin?.write('go\n');
  return child;
}

/** With SIGKILL, its guardians first if that is asked for: then nobody puts anything right. */
async function kill(child: ChildProcess, { guardians }: { guardians: boolean }): Promise<void> {
  const { pid } = child as { pid: number };
  const killed = guardians ? childrenOf(pid).filter((one) => readProcess(one)?.name === 'stillframe-guar') : [];
  expect(killed.length > 0).toBe(guardians);
  for (const one of killed) process.kill(one, 'SIGKILL');
  await endChild(child);
}

/** The runtimes that it has started. */
function runtimesOf({ pid }: ChildProcess): number[] {
  return childrenOf(pid as number).filter((one) => readProcess(one)?.name === 'runc');
}

const isStopped = ({ pid }: ChildProcess): boolean => readProcess(pid as number)?.state === 'T';
const hiddenIn = (dir: string): string[] => readdirSync(dir).filter((name) => name.startsWith('.stillframe-'));
const journalsIn = (dir: string): string[] => readdirSync(dir).filter((name) => name.includes('.json'));
const writerOf = (bundle: Bundle): WriterInContainer => new WriterInContainer(join(bundle.rootfs, 'data/status'));

describe('the checkpoint of a pod that is killed', () => {
  const pod = async (
    name: string,
    stop: boolean,
  ): Promise<{ dir: string; stateDir: string; bundle: Bundle; options: object } & AsyncDisposable> => {
    const dir = join(scratch, name);
    mkdirSync(dir);
    const bundle = new Bundle(image, { args: WRITER_ARGS });
    const container = await RuncContainer.run(bundle);
    await writerOf(bundle).started();
    const stateDir = join(dir, 'state');
    const names = [{ runc: container.id, stateRoot: container.stateRoot }];
    return {
      dir,
      stateDir,
      bundle,
      options: { containers: names, outputDir: join(dir, 'pod'), stateDir, stop, workDir: scratch },
      async [Symbol.asyncDispose]() {
        await container[Symbol.asyncDispose]();
        await bundle[Symbol.asyncDispose]();
      },
    };
  };

  it.each([
    ['leaves nothing', false],
    ['and its guardians with it leaves nothing after recover', true],
  ])('%s', async (name, guardians) => {
    await using target = await pod(name, false);
    const { dir, stateDir, options, bundle } = target;
    const child = await startVictim({ call: 'checkpointPod', options, hold: { phase: 'seal', at: 'end' } });
    expect(await until(() => isStopped(child), 20_000)).toBe(true);
    expect(hiddenIn(dir)).toHaveLength(1);
    await kill(child, { guardians });
    if (guardians) {
      const left = hiddenIn(dir);
      expect(left).toHaveLength(1);
      // Beside it that of its container's checkpoint, in any order.
      expect(await recover({ stateDir })).toContainEqual(
        expect.objectContaining({ podDirectory: join(dir, 'pod'), did: [`removed ${left[0]!}`] }),
      );
    }
    expect(await until(() => readdirSync(dir).join() === 'state' && journalsIn(stateDir).length === 0, 20_000)).toBe(
      true,
    );
    expect(await writerOf(bundle).isWell()).toEqual(WELL);
  });

  it('when its containers have ended keeps their archives', async () => {
    await using target = await pod('ended', true);
    const { dir, stateDir, options } = target;
    const child = await startVictim({ call: 'checkpointPod', options, hold: { phase: 'dump', at: 'end' } });
    expect(await until(() => isStopped(child), 20_000)).toBe(true);
    await kill(child, { guardians: false });
    expect(await until(() => journalsIn(stateDir).length === 0, 20_000)).toBe(true);
    const [kept] = hiddenIn(dir);
    const [archive] = readdirSync(join(dir, kept as string));
    await using open = await openArchive(join(dir, kept as string, archive as string));
    await expect(verifyArchive(open)).resolves.toBeDefined();
  });
});

it("the archives of a pod's ended containers are kept when their directory cannot get its name", async () => {
  const dir = mkdtempSync(join(scratch, 'taken-'));
  const outputDir = join(dir, 'pod');
  await using bundle = new Bundle(image, { args: WRITER_ARGS });
  await using container = await RuncContainer.run(bundle);
  await writerOf(bundle).started();
  const onProgress = ({ phase, at }: { phase: string; at: string }): void => {
    if (phase === 'dump' && at === 'end') mkdirSync(outputDir);
  };
  const containers = [{ runc: container.id, stateRoot: container.stateRoot }];
  await expect(checkpointPod({ containers, outputDir, stop: true, onProgress })).rejects.toMatchObject({
    code: 'ARCHIVES_KEPT',
    facts: { path: expect.stringContaining(join(dir, '.stillframe-')) as string, directory: outputDir },
    cause: { code: 'EEXIST' },
  });
  expect((await container.state()).status).toBe('stopped');
  const [kept] = hiddenIn(dir);
  await using open = await openArchive(join(dir, kept as string, `${container.id}.tar`));
  await expect(verifyArchive(open)).resolves.toBeDefined();
});

describe('the restore of a container that is killed', () => {
  let archive: string;
  beforeAll(async () => {
    archive = join(scratch, 'writer.tar');
    // Enough that there is a middle.
    const args = ['sh', '-c', `busybox head -c 150000000 /dev/zero > /big; ${WRITER_ARGS[2]}`];
    await using bundle = new Bundle(image, { args });
    await using container = await RuncContainer.run(bundle);
    await writerOf(bundle).started();
    await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output: archive, stop: true });
  });

  it.each([
    ['while the files are put in place', 'leaves nothing of it', false],
    ['while the files are put in place, with its guardian', 'leaves nothing of it after recover', true],
    ['while the runtime restores', 'leaves a whole container or none', false],
    ['while the runtime restores, with the runtime', 'leaves nothing of it', false],
    ['while the runtime restores, with the runtime and its guardian', 'leaves nothing of it after recover', true],
  ])('%s %s', async (when, _, guardians) => {
    await using bundle = new Bundle(image);
    rmSync(join(bundle.dir, 'config.json'));
    await using restored = RuncContainer.adopt(bundle, newId(), join(bundle.dir, 'runc-state'));
    const { id, stateRoot } = restored;
    const stateDir = mkdtempSync(join(scratch, 'state-'));
    const workDir = mkdtempSync(join(scratch, 'work-'));
    const options = { archive, runc: id, stateRoot, bundle: bundle.dir, stateDir, workDir };
    const child = await startVictim({ call: 'restoreContainer', options });
    const restores = when.startsWith('while the runtime restores');
    const isThere = (): boolean => (restores ? existsSync(join(stateRoot, id)) : hiddenIn(bundle.rootfs).length > 0);
    expect(await until(isThere, 30_000)).toBe(true);
    // We wrote it, and nothing but our journal and our guardian knows that.
    if (restores) expect(existsSync(join(bundle.dir, 'config.json'))).toBe(true);
    if (when.includes('with the runtime')) for (const pid of runtimesOf(child)) process.kill(pid, 'SIGKILL');
    await kill(child, { guardians });
    if (guardians) {
      if (!restores) expect(hiddenIn(bundle.rootfs)).toHaveLength(1);
      await recover({ stateDir });
    }
    expect(await until(() => journalsIn(stateDir).length === 0, 40_000)).toBe(true);
    expect([hiddenIn(bundle.rootfs), hiddenIn(workDir)]).toEqual([[], []]);
    const isWhole = existsSync(join(stateRoot, id, 'state.json'));
    expect(existsSync(join(bundle.dir, 'config.json'))).toBe(isWhole);
    if (isWhole) {
      expect((await restored.state()).status).toBe('running');
      expect(await writerOf(bundle).isWell()).toEqual(WELL);
      return;
    }
    // What a killed runc leaves.
    if (existsSync(join(stateRoot, id, 'criu-root'))) unmount(join(stateRoot, id, 'criu-root'));
    rmSync(join(stateRoot, id), { recursive: true, force: true });
    await restoreContainer({ runc: id, stateRoot, bundle: bundle.dir, archive });
    expect(await writerOf(bundle).isWell()).toEqual(WELL);
  });
});

describe('the restore of a whole root file system that is killed', () => {
  let archive: string;
  beforeAll(async () => {
    archive = join(scratch, 'whole.tar');
    const args = ['sh', '-c', `busybox head -c 40000000 /dev/zero > /big; ${WRITER_ARGS[2]}`];
    await using bundle = new Bundle(image, { overlay: false, args });
    await using container = await RuncContainer.run(bundle);
    await writerOf(bundle).started();
    const { id: runc, stateRoot } = container;
    await checkpointContainer({ runc, stateRoot, output: archive, stop: true, wholeRootfs: true });
  });

  it.each([
    ['leaves the root file system empty, as it was', false],
    ['with its guardian leaves it empty after recover', true],
  ])('%s, and can be made again', async (_, guardians) => {
    await using bundle = new Bundle(image, { overlay: false });
    rmSync(bundle.rootfs, { recursive: true });
    mkdirSync(bundle.rootfs);
    // What somebody gave the directory stays: it is not removed and made anew.
    chmodSync(bundle.rootfs, 0o711);
    await using restored = RuncContainer.adopt(bundle, newId(), join(bundle.dir, 'runc-state'));
    const { id, stateRoot } = restored;
    const stateDir = mkdtempSync(join(scratch, 'state-'));
    const workDir = mkdtempSync(join(scratch, 'work-'));
    const options = { archive, runc: id, stateRoot, bundle: bundle.dir, stateDir, workDir };
    const before = statSync(bundle.rootfs, { bigint: true });
    const child = await startVictim({ call: 'restoreContainer', options });
    // In the middle: some of it has its place already, or lies in the hidden directory.
    expect(await until(() => readdirSync(bundle.rootfs).length > 0, 30_000)).toBe(true);
    await kill(child, { guardians });
    if (guardians) {
      expect(readdirSync(bundle.rootfs)).not.toEqual([]);
      await recover({ stateDir });
    }
    expect(await until(() => journalsIn(stateDir).length === 0, 40_000)).toBe(true);
    expect(readdirSync(bundle.rootfs)).toEqual([]);
    const after = statSync(bundle.rootfs, { bigint: true });
    expect([after.ino, after.mode, after.uid]).toEqual([before.ino, before.mode, before.uid]);
    expect(hiddenIn(workDir)).toEqual([]);
    expect(existsSync(join(stateRoot, id))).toBe(false);
    await restoreContainer({ ...options, stateDir: undefined });
    expect(await writerOf(bundle).isWell()).toEqual(WELL);
  });
});
