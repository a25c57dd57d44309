/** What a fixture has made ends with its test also when that times out, and the end of its scope is never reached. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isAlive } from '../../src/proc/task.js';
import { BusyWriter } from '../fixtures/busy-writer.js';
import { freezerVersions, makeTestCgroup } from '../fixtures/cgroup.js';
import { Bundle, makeImage, RuncContainer } from '../fixtures/container.js';
import { Counter, scratch } from '../fixtures/criu.js';
import { mountLosingDisk } from '../fixtures/losing-disk.js';
import { OddTask } from '../fixtures/odd-task.js';
import { mountDeafFileSystem, spawnCounter } from '../fixtures/processes.js';
import { FailingDisk } from './faults/failing-disk.js';

let image: string;
beforeAll(() => {
  image = makeImage(mkdtempSync(join(tmpdir(), 'stillframe-test-')));
});
afterAll(() => rmSync(image, { recursive: true, force: true }));

/** Starts it. @returns what of it is left, now */
type Start = () => Promise<() => string[]>;

const processes = (pids: readonly number[]): string[] => pids.filter(isAlive).map((pid) => `process ${pid}`);
const paths = (...all: string[]): string[] => all.filter((path) => existsSync(path));
const mounts = (path: string): string[] => (readFileSync('/proc/self/mounts', 'utf8').includes(path) ? [path] : []);

const version = freezerVersions()[0]!;
const starts: Record<string, Start> = {
  'a busy writer that is frozen': async () => {
    const writer = await BusyWriter.start(version);
    const { pids } = writer;
    writer.cgroup.wish(true);
    return () => [...processes(pids), ...paths(writer.scratch, writer.cgroup.path)];
  },
  'a cgroup with a counter in it': async () => {
    const cgroup = makeTestCgroup(version);
    const counter = await spawnCounter();
    cgroup.add(counter.pid);
    return () => [...processes([counter.pid]), ...paths(cgroup.path, counter.file)];
  },
  'a counter of two processes': async () => {
    const dir = await scratch();
    const counter = await Counter.start(dir.path);
    return () => [...processes([counter.pid, counter.childPid]), ...paths(dir.path)];
  },
  'an odd task below a shell': async () => {
    const dir = await scratch();
    const task = await OddTask.start(dir.path, 'plain', { job: true });
    return () => [...processes([task.pid]), ...paths(dir.path)];
  },
  'a container': async () => {
    const bundle = new Bundle(image);
    const container = await RuncContainer.run(bundle);
    const { pid } = await container.state();
    return () => [...processes([pid]), ...mounts(bundle.dir), ...paths(bundle.dir)];
  },
  'disks in files': async () => {
    const dir = await scratch();
    mountLosingDisk(dir.path);
    new FailingDisk(dir.path);
    return () => [...mounts(dir.path), ...paths(dir.path)];
  },
  'a file system that does not answer': () => {
    const { path } = mountDeafFileSystem();
    return Promise.resolve(() => mounts(path));
  },
};

describe.each(Object.entries(starts))('%s', (_, start) => {
  let left: () => string[];
  describe('in a test that times out', () => {
    beforeEach(async () => {
      left = await start();
      expect(left()).not.toEqual([]);
    });
    it.fails('which this one does', { timeout: 20 }, () => new Promise(() => undefined));
  });

  it('is gone afterwards', () => {
    expect(left()).toEqual([]);
  });
});
