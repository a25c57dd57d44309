/** Files on which a process has a lease: they are read without breaking it, and without moving the process's offset. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { ArchiveWriter, openArchive, Stage, verifyArchive } from '../../../src/archive/index.js';
import { checkpoint } from '../../../src/index.js';
import { listTree, Scratch, untar } from './trees.js';

// Leases, then what a program does that knows of them: it says so when one is broken. `mode` is an os.O_* name.
const HOLDER = `
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, lambda *_: os.write(1, b'broken\\n'))
held = []
for path in sys.argv[2:]:
    fd = os.open(path, getattr(os, sys.argv[1]))
    os.lseek(fd, 3, os.SEEK_SET)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    held.append(fd)
os.write(1, b'holds\\n')
while True:
    signal.pause()
`;

class Holder {
  private constructor(
    readonly child: ChildProcess,
    readonly saidPath: string,
  ) {}

  static async start(scratch: Scratch, mode: string, ...paths: string[]): Promise<Holder> {
    // A file: a socket of ours would be in the way of the dump.
    const said = scratch.in('said');
    const fd = openSync(said, 'a');
    const child = spawn('python3', ['-c', HOLDER, mode, ...paths], { stdio: ['ignore', fd, fd], detached: true });
    closeSync(fd);
    onTestFinished(() => void child.kill('SIGKILL'));
    const holder = new Holder(child, said);
    await expect.poll(() => holder.said, { timeout: 30_000, interval: 20 }).toBe('holds\n');
    return holder;
  }

  get said(): string {
    return readFileSync(this.saidPath, 'utf8');
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** Of each file: where its descriptor stands, and whether the kernel still lists an unbroken lease on it. */
  holds(paths: string[]): { offset: number; lease: boolean }[] {
    const locks = readFileSync('/proc/locks', 'latin1').split('\n');
    return paths.map((path, i) => ({
      // The first descriptor that the program opened is 3.
      offset: Number(/^pos:\s+(\d+)$/m.exec(readFileSync(`/proc/${this.pid}/fdinfo/${3 + i}`, 'latin1'))![1]),
      lease: locks.some((line) => / LEASE +ACTIVE +WRITE /.test(line) && line.includes(`:${statSync(path).ino} `)),
    }));
  }
}

/** A small file, one that is copied in pieces, and one between them. */
function files(dir: string): string[] {
  mkdirSync(dir);
  const contents = { small: 'small', pieces: Buffer.alloc(5 << 20, 'pieces '), middle: Buffer.alloc(200_000, 'm') };
  for (const [name, data] of Object.entries(contents)) writeFileSync(`${dir}/${name}`, data);
  return Object.keys(contents).map((name) => `${dir}/${name}`);
}

test.each([true, false])('are archived, and stay as they are (ahead of the freeze: %s)', async (ahead) => {
  using scratch = new Scratch();
  const paths = files(scratch.in('tree'));
  const sparse = scratch.in('tree/sparse');
  writeFileSync(sparse, 'begin');
  truncateSync(sparse, 8 << 20);
  const alone = scratch.in('alone');
  writeFileSync(alone, 'a tree of one file');
  const all = [...paths, sparse, alone];
  const holder = await Holder.start(scratch, 'O_RDWR', ...all);
  const before = holder.holds(all);
  expect(before).toEqual(all.map(() => ({ offset: 3, lease: true })));

  const archive = scratch.in('x.tar');
  await using writer = await ArchiveWriter.create({ outputPath: archive });
  const stage = new Stage(writer, [
    { path: scratch.in('tree'), name: 'tree' },
    { path: alone, name: 'alone' },
  ]);
  if (ahead) await stage.precopy({ mapped: () => new Set() });
  await stage.refresh({ mapped: new Set(), writable: () => new Set() });
  await writer.seal({ subject: {} });

  expect(holder.holds(all)).toEqual(before);
  expect(holder.said).toBe('holds\n');
  const opened = await openArchive(archive);
  await verifyArchive(opened).finally(() => opened.close());
  using out = new Scratch();
  untar(archive, out.in('out'));
  holder.child.kill('SIGKILL');
  await once(holder.child, 'exit');
  expect(listTree(out.in('out/tree'))).toEqual(listTree(scratch.in('tree')));
  expect(readFileSync(out.in('out/alone'), 'utf8')).toBe('a tree of one file');
});

test('of a target are held after its checkpoint', async () => {
  using scratch = new Scratch();
  const paths = files(scratch.in('tree'));
  const holder = await Holder.start(scratch, 'O_RDWR', ...paths);
  const before = holder.holds(paths);
  await checkpoint({
    pid: holder.pid,
    adopt: true,
    files: [{ path: scratch.in('tree'), name: 'tree' }],
    output: scratch.in('x.tar'),
  });
  expect(holder.holds(paths)).toEqual(before);
  expect(holder.said).toBe('holds\n');
});

test('that nobody can read through are an error that says so, and are not broken', async () => {
  using scratch = new Scratch();
  const paths = files(scratch.in('tree'));
  const holder = await Holder.start(scratch, 'O_WRONLY', paths[0]!);
  await using writer = await ArchiveWriter.create({ outputPath: scratch.in('x.tar') });
  const stage = new Stage(writer, [{ path: scratch.in('tree'), name: 'tree' }]);
  const error: unknown = await stage.refresh({ mapped: new Set(), writable: () => new Set() }).catch((e: unknown) => e);
  expect(error).toMatchObject({
    code: 'TREE_UNREADABLE',
    facts: { path: paths[0] },
    remedy: expect.stringContaining('lease') as unknown,
  });
  expect(holder.holds([paths[0]!])).toEqual([{ offset: 3, lease: true }]);
  expect(holder.said).toBe('holds\n');
});
