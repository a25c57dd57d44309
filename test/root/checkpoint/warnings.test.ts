/** What an archive does not hold is said at the checkpoint, in the archive and at the restore; `strict` refuses it. */
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { checkpoint, inspect, restore, type Warning } from '../../../src/index.js';
import { runningPids } from '../../../src/checkpoint/base/pids.js';
import { until } from '../../fixtures/criu.js';
import { startDetached } from '../../fixtures/detached.js';
import { stillframe } from '../../fixtures/program.js';

/**
 * Holds a log open for writing and a file of /dev/shm mapped, both outside of any tree, and state that CRIU does not
 * dump.
 */
const program = `
import mmap, os, sys, time
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)
os.write(log, b'begun')
shm = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(shm, 4096)
m = mmap.mmap(shm, 4096)
os.close(shm)
fd = os.eventfd(1, os.EFD_SEMAPHORE)
open('/proc/self/coredump_filter', 'w').write('0x7f')
m[0] = 1
while True:
    m[8:16] = time.monotonic_ns().to_bytes(8, 'little')
    time.sleep(0.01)
`;

interface Holder {
  dir: string;
  pid: number;
  log: string;
  shm: string;
  archive: string;
  kill(): Promise<void>;
}

async function holder(): Promise<Holder> {
  const dir = mkdtempSync(join(tmpdir(), 'stillframe-test-warnings-'));
  const [log, shm] = [join(dir, 'log'), `/dev/shm/stillframe-test-warnings-${process.pid}`];
  onTestFinished(() => {
    rmSync(shm, { force: true });
    rmSync(dir, { recursive: true, force: true });
  });
  const { pid, kill } = await startDetached('python3', ['-c', program, log, shm]);
  await until(() => existsSync(shm) && statSync(shm).size === 4096 && readFileSync(shm)[0] === 1, 'it holds all');
  return { dir, pid, log, shm, archive: join(dir, 'archive.tar'), kill };
}

const byCode = (warnings: readonly Warning[]) => Object.fromEntries(warnings.map((each) => [each.code, each]));
const pathsOf = (warning: unknown): unknown[] =>
  (warning as Warning<'FILES_NOT_ARCHIVED'>).facts.files.map(({ path, use }) => [path, use]);

test('files outside the archive and lost state are warned of, and what has changed since is told at the restore', async () => {
  const { dir, pid, log, shm, archive, kill } = await holder();
  const told: string[] = [];
  const report = await checkpoint({
    pid,
    adopt: true,
    output: archive,
    stateDir: dir,
    onWarning: ({ warning }) => told.push(warning.code),
  });
  const found = byCode(report.warnings);
  expect(pathsOf(found['FILES_NOT_ARCHIVED'])).toEqual(
    expect.arrayContaining([
      [shm, 'mapped'],
      [log, 'writing'],
    ]),
  );
  expect(found['FILES_NOT_ARCHIVED']?.remedy).toContain('`filesInUse`');
  expect((found['STATE_LOST'] as Warning<'STATE_LOST'>).facts.states.map(({ what }) => what)).toEqual([
    'coredump_filter',
    'EFD_SEMAPHORE',
  ]);
  expect(told).toEqual(report.warnings.map(({ code }) => code));
  expect((await inspect(archive)).warnings.map(({ code }) => code)).toEqual(told);
  const inspected = await stillframe('inspect', archive);
  expect(inspected.stdout).toMatch(/: --files-in-use takes all of them, --files those that you name\./);

  await kill();
  writeFileSync(shm, Buffer.alloc(4096, 2)); // same size: CRIU would not notice
  const refusal = await restore({ archive, stateDir: dir, strict: true }).catch((error: unknown) => error);
  expect(refusal).toMatchObject({ code: 'WARNINGS_REFUSED' });
  expect(existsSync(`/proc/${pid}`)).toBe(false);
  const restored = await restore({ archive, stateDir: dir });
  const after = byCode(restored.warnings);
  expect((after['FILES_CHANGED'] as Warning<'FILES_CHANGED'>).facts.files.map(({ path }) => path)).toEqual([shm]);
  expect((after['STATE_LOST'] as Warning<'STATE_LOST'>).facts.states.map(({ what }) => what)).toContain(
    'EFD_SEMAPHORE',
  );
}, 120_000);

test('a mapped file that was written to since is named at the restore although its size and times are the same', async () => {
  const { dir, pid, shm, archive, kill } = await holder();
  await checkpoint({ pid, adopt: true, output: archive, stateDir: dir });
  const seen = (): [Buffer, bigint, bigint] => {
    const { mtimeNs, ctimeNs } = statSync(shm, { bigint: true });
    return [readFileSync(shm), mtimeNs, ctimeNs];
  };
  const [before, ...times] = seen();
  await until(() => !readFileSync(shm).equals(before), 'it has written on');
  await kill();
  expect(seen().slice(1)).toEqual(times);
  const { warnings } = await restore({ archive, stateDir: dir });
  const changed = byCode(warnings)['FILES_CHANGED'] as Warning<'FILES_CHANGED'>;
  expect(changed.facts.files).toMatchObject([{ path: shm, state: 'unknown' }]);
  expect(changed.message).toContain('perhaps changed');
}, 120_000);

test('a tree that is sent elsewhere is warned of before anything is extracted', async () => {
  const { dir, pid, log, archive, kill } = await holder();
  const tree = join(dir, 'tree');
  mkdirSync(tree);
  const inTree = join(tree, 'log');
  // What is open keeps its inode: its path is below the tree from now on.
  renameSync(log, inTree);
  await checkpoint({ pid, adopt: true, output: archive, stateDir: dir, files: [{ path: tree, name: 'tree' }] });
  await kill();
  const elsewhere = join(dir, 'elsewhere');
  const told: string[] = [];
  const onWarning = ({ warning }: { warning: Warning }): void => {
    told.push(`${warning.code}, extracted: ${existsSync(elsewhere)}`);
  };
  const { warnings } = await restore({ archive, stateDir: dir, files: { tree: elsewhere }, onWarning });
  expect(byCode(warnings)['TREE_ELSEWHERE']?.facts).toEqual({
    trees: [{ tree: 'tree', source: tree, destination: elsewhere, files: [inTree], more: 0 }],
  });
  expect(told).toContain('TREE_ELSEWHERE, extracted: false');
}, 120_000);

test('strict refuses them before anything is frozen, and the tree runs on', async () => {
  const { dir, pid, archive } = await holder();
  const windows: unknown[] = [];
  const refusal = await checkpoint({
    pid,
    adopt: true,
    output: archive,
    stateDir: dir,
    strict: true,
    onWindow: (window) => windows.push(window),
  }).catch((error: unknown) => error);
  expect(refusal).toMatchObject({ code: 'WARNINGS_REFUSED' });
  expect(windows).toEqual([]);
  expect(existsSync(archive)).toBe(false);
  expect(runningPids(pid)).toEqual([pid]);
}, 120_000);

test('filesInUse archives them: they come back, and their neighbours are not touched', async () => {
  const { dir, pid, log, shm, archive, kill } = await holder();
  const report = await checkpoint({ pid, adopt: true, output: archive, stateDir: dir, filesInUse: true });
  expect(byCode(report.warnings)['FILES_NOT_ARCHIVED']).toBeUndefined();
  await kill();
  rmSync(shm);
  rmSync(log);
  appendFileSync(join(dir, 'neighbour'), 'mine');
  const restored = await restore({ archive, stateDir: dir });
  expect(byCode(restored.warnings)['FILES_CHANGED']).toBeUndefined();
  expect([readFileSync(log, 'utf8'), readFileSync(shm)[0], readFileSync(join(dir, 'neighbour'), 'utf8')]).toEqual([
    'begun',
    1,
    'mine',
  ]);
}, 120_000);

test.each(['guardian', 'adopt', 'precopy', 'start-criu', 'dump'])(
  'filesInUse: a file that vanishes as %s begins is in the images, as any that is deleted',
  async (phase) => {
    const { dir, pid, log, shm, archive, kill } = await holder();
    const report = await checkpoint({
      pid,
      adopt: true,
      output: archive,
      stateDir: dir,
      filesInUse: true,
      onProgress: (event) => {
        if (event.phase === phase && event.at === 'start') rmSync(log, { force: true });
      },
    });
    expect(byCode(report.warnings)['FILES_NOT_ARCHIVED']).toBeUndefined();
    const { manifest } = await inspect(archive);
    expect(manifest?.trees.map(({ source }) => source)).toEqual([shm]);
    await kill();
    rmSync(shm);
    const restored = await restore({ archive, stateDir: dir });
    const held = readdirSync(`/proc/${restored.pid}/fd`).map((fd) => `/proc/${restored.pid}/fd/${fd}`);
    const deleted = held.filter((fd) => readlinkSync(fd).includes('log') && readlinkSync(fd).endsWith(' (deleted)'));
    expect(deleted.map((fd) => readFileSync(fd, 'utf8'))).toEqual(['begun']);
  },
  120_000,
);

test('a file in use that is there at the restore is not replaced, and the error names it', async () => {
  const { dir, pid, log, shm, archive, kill } = await holder();
  await checkpoint({ pid, adopt: true, output: archive, stateDir: dir, filesInUse: true });
  await kill();
  rmSync(shm);
  const refusal = await restore({ archive, stateDir: dir }).catch((error: unknown) => error);
  expect(refusal).toMatchObject({ code: 'DESTINATION_EXISTS', facts: { path: log } });
  expect([readFileSync(log, 'utf8'), existsSync(shm)]).toEqual(['begun', false]);
}, 120_000);

test('the files in use of a tree that has crashed are replaced, wherever they are', async () => {
  const { dir, pid, log, shm, archive, kill } = await holder();
  await checkpoint({ pid, adopt: true, output: archive, stateDir: dir, filesInUse: true });
  await kill();
  appendFileSync(log, ', and torn');
  const { replaced } = await restore({ archive, stateDir: dir, replaceFiles: 'keep' });
  onTestFinished(() => replaced.forEach(({ keptAs }) => rmSync(keptAs!, { force: true })));
  expect(replaced.map(({ path }) => path).sort()).toEqual([shm, log].sort());
  expect(readFileSync(log, 'utf8')).toBe('begun');
  expect(readFileSync(replaced.find(({ path }) => path === log)!.keptAs!, 'utf8')).toBe('begun, and torn');
}, 120_000);
