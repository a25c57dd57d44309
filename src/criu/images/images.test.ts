import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import Long from 'long';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { CriuError } from '../errors/criu-error.js';
import {
  cgroup_entry,
  core_entry,
  fdinfo_entry,
  file_entry,
  file_lock_entry,
  fs_entry,
  mm_entry,
  mnt_entry,
  pagemap_entry,
  pagemap_head,
  pstree_entry,
  remap_file_path_entry,
  remap_type,
  task_kobj_ids_entry,
  tty_info_entry,
  TtyType,
} from '../generated/criu.js';
import { readCgroups } from './cgroups.js';
import { readDumpedLocks } from './file-locks.js';
import { readDumpedFiles } from './files.js';
import { readInventory } from './inventory.js';
import { readMounts } from './mounts.js';
import { readPagemap } from './pagemap.js';
import { readPstree } from './pstree.js';
import { readDumpStats } from './stats.js';
import { readDumpedTask } from './task.js';
import { needsTerminal } from './tty.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'stillframe-test-images-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const COMMON = 0x54564319;
const PSTREE = 0x50273030;

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function image(magic: number, entries: Uint8Array[]): Buffer {
  return Buffer.concat([u32(COMMON), u32(magic), ...entries.flatMap((entry) => [u32(entry.length), entry])]);
}

const process1 = { pid: 10, ppid: 0, pgid: 10, sid: 10, threads: [10, 11] };

async function pstree(bytes: Uint8Array): Promise<unknown> {
  await writeFile(join(dir, 'pstree.img'), bytes);
  return readPstree(dir);
}

test("the first thread's id is the pid, whatever CRIU has left there for a zombie", async () => {
  const zombie = { ...process1, pid: 12, ppid: 10, threads: [2_356_715_856] };
  const entries = [process1, zombie].map((entry) => pstree_entry.encode(entry).finish());
  expect(await pstree(image(PSTREE, entries))).toEqual([process1, { ...zombie, threads: [12] }]);
});

test('entries across the chunks of a large image come out whole', async () => {
  const entries = Array.from({ length: 20_000 }, (_, i) => ({ ...process1, pid: i + 1, threads: [i + 1, 30_000] }));
  expect(
    await pstree(
      image(
        PSTREE,
        entries.map((entry) => pstree_entry.encode(entry).finish()),
      ),
    ),
  ).toEqual(entries);
});

test.each([
  ['empty', Buffer.alloc(0), 'of another kind'],
  ['of another kind', image(0x12345678, []), 'of another kind'],
  ['cut in the magic', u32(COMMON).subarray(0, 3), 'cut short'],
  ['cut in a length', Buffer.concat([image(PSTREE, []), Buffer.from([1, 0])]), 'cut short'],
  ['cut in an entry', image(PSTREE, [pstree_entry.encode(process1).finish()]).subarray(0, -1), 'cut short'],
  ['cut after a length', Buffer.concat([image(PSTREE, []), u32(5)]), 'cut short'],
  ['with a monstrous length', Buffer.concat([image(PSTREE, []), u32(0xffffffff)]), '4294967295 bytes'],
  ['with an entry that is no message', image(PSTREE, [Buffer.alloc(10, 0xff)]), ''],
])('an image %s is CRIU_IMAGE with its path', async (_, bytes, reason) => {
  const error: unknown = await pstree(bytes).catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(CriuError);
  expect(error).toMatchObject({ code: 'CRIU_IMAGE', facts: { path: join(dir, 'pstree.img') } });
  expect((error as CriuError).message).toContain(reason);
});

test('a missing image has the system error as its cause', async () => {
  for (const read of [readPstree, readInventory, readDumpedFiles, readDumpStats]) {
    await expect(read(dir)).rejects.toMatchObject({ code: 'CRIU_IMAGE', cause: { code: 'ENOENT' } });
  }
});

test('a path that is not UTF-8 comes out byte for byte, with what became of a deleted one', async () => {
  const path = Buffer.from([0x2f, 0xff, 0x20, 0xe9]);
  const fown = { uid: 0, euid: 0, signum: 0, pidType: 0, pid: 0 };
  const reg = { id: 3, flags: 0o2, pos: 9, name: path, size: 5_000_000_000, fown };
  await writeFile(
    join(dir, 'files.img'),
    image(0x56303138, [
      file_entry.encode({ type: 1, id: 3, reg }).finish(),
      file_entry.encode({ type: 2, id: 4 }).finish(),
    ]),
  );
  await writeFile(
    join(dir, 'remap-fpath.img'),
    image(0x59133954, [remap_file_path_entry.encode({ origId: 3, remapId: 1, remapType: remap_type.GHOST }).finish()]),
  );
  expect(await readDumpedFiles(dir)).toEqual([
    { id: 3, path, flags: 2, pos: 9, size: 5_000_000_000, external: false, remap: 'ghost' },
  ]);
});

const HUGE = Long.fromString('9223372036854775807', true);
const fown = { uid: 0, euid: 0, signum: 0, pidType: 0, pid: 0 };
const [page, address] = [{ pagesId: 1 }, 4096];

const bytesOf = (text: string): Buffer => Buffer.from(text);
const mount = {
  ...{ fstype: 5, mntId: 30, rootDev: 40, parentMntId: 29, flags: 0, extMount: true },
  ...{ root: bytesOf('/'), mountpoint: bytesOf('/data'), source: bytesOf('tmpfs'), options: bytesOf('size=1k') },
};
const cgroups = {
  sets: [{ id: 1, ctls: [{ name: bytesOf(''), path: bytesOf('/a/b') }] }],
  controllers: [
    {
      cnames: [bytesOf('cpu'), bytesOf('cpuacct')],
      dirs: [
        {
          dirName: bytesOf('a'),
          properties: [{ name: bytesOf('cpu.shares'), value: bytesOf('512') }],
          children: [{ dirName: bytesOf('b') }],
        },
      ],
    },
  ],
};

interface Image {
  name: string;
  magic: number;
  /** What reads it; it finds all others there. */
  read: () => Promise<unknown>;
  entries: Uint8Array[];
}

const IMAGES: readonly Image[] = [
  {
    name: 'pstree.img',
    magic: PSTREE,
    read: () => readPstree(dir),
    entries: [pstree_entry.encode(process1).finish()],
  },
  {
    name: 'files.img',
    magic: 0x56303138,
    read: () => readDumpedFiles(dir),
    entries: [file_entry.encode({ type: 2, id: 4 }).finish()],
  },
  {
    name: 'filelocks.img',
    magic: 0x54323616,
    read: () => readDumpedLocks(dir),
    entries: [file_lock_entry.encode({ flag: 1, type: 1, pid: 10, fd: 3, start: 0, len: 0 }).finish()],
  },
  {
    name: 'core-10.img',
    magic: 0x55053847,
    read: () => readDumpedTask(dir, 10),
    entries: [
      core_entry
        .encode({
          tc: { taskState: 1, comm: Buffer.from('it') },
          threadCore: { creds: { uid: 1, gid: 2, euid: 3, egid: 4 }, cgSet: 1 },
        })
        .finish(),
    ],
  },
  {
    name: 'ids-10.img',
    magic: 0x54432030,
    read: () => readDumpedTask(dir, 10),
    entries: [task_kobj_ids_entry.encode({ filesId: 2 }).finish()],
  },
  {
    name: 'mm-10.img',
    magic: 0x57492820,
    read: () => readDumpedTask(dir, 10),
    entries: [
      mm_entry
        .encode({
          exeFileId: 1,
          mmArgStart: 100,
          mmArgEnd: 120,
          mmEnvStart: 120,
          mmEnvEnd: 150,
          vmas: [
            { start: 4096, end: 12288, pgoff: 8192, prot: 5, shmid: 7, status: 0x41 },
            { start: 16384, end: 20480, pgoff: 0, prot: 3, shmid: 8, status: 0x201 },
          ],
        })
        .finish(),
    ],
  },
  {
    name: 'fs-10.img',
    magic: 0x51403912,
    read: () => readDumpedTask(dir, 10),
    entries: [fs_entry.encode({ cwdId: 5, rootId: 6, umask: 0o22 }).finish()],
  },
  {
    name: 'mountpoints-3.img',
    magic: 0x55563928,
    read: () => readMounts(dir, 3),
    entries: [mnt_entry.encode(mount).finish()],
  },
  {
    name: 'cgroup.img',
    magic: 0x59383330,
    read: () => readCgroups(dir),
    entries: [cgroup_entry.encode(cgroups).finish()],
  },
  {
    name: 'fdinfo-2.img',
    magic: 0x56213732,
    read: () => readDumpedTask(dir, 10),
    entries: [fdinfo_entry.encode({ id: 5, flags: 0, type: 1, fd: 3 }).finish()],
  },
  {
    name: 'pagemap-10.img',
    magic: 0x56084025,
    read: () => readPagemap(dir, 10),
    entries: [
      pagemap_head.encode(page).finish(),
      pagemap_entry.encode({ vaddr: address, compatNrPages: 3, flags: 4 }).finish(),
    ],
  },
];

async function writeImages(): Promise<void> {
  for (const { name, magic, entries } of IMAGES) await writeFile(join(dir, name), image(magic, entries));
}

test('a process has its executable, its mapped files and its descriptors', async () => {
  await writeImages();
  expect(await readDumpedTask(dir, 10)).toEqual({
    name: Buffer.from('it'),
    state: 'running',
    memory: {
      ...{ exeFileId: 1, mappedFileIds: [7], mappedBytes: 12288 },
      ...{ argsStart: 100, argsEnd: 120, envStart: 120, envEnd: 150 },
      mappings: [
        { start: 4096, end: 12288, kind: 'file', protection: 'r-xp', fileId: 7, offset: 8192 },
        { start: 16384, end: 20480, kind: 'anonymous', protection: 'rw-p', offset: 0 },
      ],
    },
    descriptors: [{ fd: 3, fileId: 5 }],
    ...{ cwdId: 5, rootId: 6, cgroupSetId: 1 },
    credentials: { uid: 1, gid: 2, euid: 3, egid: 4 },
  });
  await writeFile(
    join(dir, 'core-11.img'),
    image(0x55053847, [core_entry.encode({ tc: { taskState: 6, comm: Buffer.of() } }).finish()]),
  );
  expect(await readDumpedTask(dir, 11)).toMatchObject({ state: 'ended', memory: undefined, descriptors: [] });
});

test('a mount, and the cgroups, are as they were recorded', async () => {
  await writeImages();
  expect(await readMounts(dir, 3)).toEqual([
    {
      ...{ id: 30, parentId: 29, type: 'tmpfs', external: true },
      ...{ root: mount.root, mountPoint: mount.mountpoint, source: mount.source, options: mount.options },
    },
  ]);
  const { sets, cgroups: found } = await readCgroups(dir);
  expect(sets.get(1)).toEqual([{ controllers: bytesOf(''), path: bytesOf('/a/b') }]);
  const controllers = [bytesOf('cpu'), bytesOf('cpuacct')];
  expect(found).toEqual([
    { controllers, path: bytesOf('/a'), properties: [{ name: bytesOf('cpu.shares'), value: bytesOf('512') }] },
    { controllers, path: bytesOf('/a/b'), properties: [] },
  ]);
});

test.each([
  ['there', { flags: 4 }, 3],
  ['there, and to come later', { flags: 6 }, 3],
  ['in the parent images', { flags: 1 }, 0],
  ['in the parent images of an old CRIU', { inParent: true }, 0],
  ['there, of an old CRIU', {}, 3],
  ['there, and more of them than 32 bits count', { flags: 4, nrPages: 2 ** 33 }, 2 ** 33],
])('pages %s are counted or not', async (_, fields, pages) => {
  const entry = pagemap_entry.encode({ vaddr: address, compatNrPages: 3, ...fields }).finish();
  await writeFile(join(dir, 'pagemap-10.img'), image(0x56084025, [pagemap_head.encode(page).finish(), entry]));
  const found: unknown[] = [];
  expect(await readPagemap(dir, 10, (one) => found.push(one))).toEqual({ file: 'pages-1.img', pages });
  const before = pages === 0 ? undefined : 0;
  expect(found).toEqual([{ address, pages: pages === 0 ? 3 : pages, before, file: 'pages-1.img' }]);
});

test.each([
  [
    'files.img',
    file_entry.encode({ type: 1, id: 3, reg: { id: 3, flags: 0, pos: HUGE, name: Buffer.of(), fown } as never }),
  ],
  ['filelocks.img', file_lock_entry.encode({ flag: 1, type: 1, pid: 1, fd: 3, start: 2 ** 62, len: 0 })],
  [
    'mm-10.img',
    mm_entry.encode({
      exeFileId: 1,
      ...{ mmArgStart: 0, mmArgEnd: 0, mmEnvStart: 0, mmEnvEnd: 0 },
      vmas: [{ start: 0, end: 0, pgoff: 0, prot: 0, shmid: HUGE, status: 0x41 }],
    }),
  ],
  ['pagemap-10.img', pagemap_entry.encode({ vaddr: address, compatNrPages: 0, flags: 4, nrPages: HUGE })],
])('a number in %s that no file has is CRIU_IMAGE', async (name, entry) => {
  await writeImages();
  const { magic, read, entries } = IMAGES.find((one) => one.name === name)!;
  const bytes = entry.finish();
  await writeFile(join(dir, name), image(magic, name.startsWith('pagemap') ? [entries[0]!, bytes] : [bytes]));
  await expect(read()).rejects.toMatchObject({ code: 'CRIU_IMAGE', facts: { path: join(dir, name) } });
});

test.each(IMAGES)(
  'any bytes behind the magic of $name are entries or CRIU_IMAGE',
  async ({ name, magic, read, entries }) => {
    await writeImages();
    const framed = fc
      .tuple(fc.constantFrom(...entries), fc.array(fc.tuple(fc.nat(40), fc.nat(255)), { maxLength: 3 }))
      .map(([entry, changes]) => {
        const changed = Buffer.from(entry);
        for (const [at, byte] of changes) if (at < changed.length) changed[at] = byte;
        return image(magic, [changed]);
      });
    const anything = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.concat([u32(COMMON), u32(magic), bytes]));
    await fc.assert(
      fc.asyncProperty(fc.oneof(framed, anything), async (bytes) => {
        await writeFile(join(dir, name), bytes);
        const error: unknown = await read().then(
          () => undefined,
          (reason: unknown) => reason,
        );
        expect(error === undefined || (error instanceof CriuError && error.code === 'CRIU_IMAGE')).toBe(true);
      }),
      { numRuns: 150 },
    );
  },
);

test.each([
  ['a slave whose master was outside', [{ id: 4, type: TtyType.PTY }], true],
  [
    'both sides of one',
    [
      { id: 4, type: TtyType.PTY },
      { id: 5, type: TtyType.PTY },
    ],
    false,
  ],
  [
    'one that needs none beside one that does',
    [
      { id: 5, type: TtyType.PTY },
      { id: 4, type: TtyType.PTY },
      { id: 6, type: TtyType.PTY },
    ],
    true,
  ],
  ['a slave that was hung up', [{ id: 4, type: TtyType.PTY, termios: null }], false],
  ["a machine's console terminal", [{ id: 2, type: TtyType.VT }], true],
  [
    '/dev/tty, and one that comes from the caller',
    [
      { id: 0, type: TtyType.CTTY },
      { id: 2, type: TtyType.EXT_TTY },
    ],
    false,
  ],
])('%s: a terminal is needed or not', async (_, terminals, needed) => {
  const entries = terminals.map((terminal) => tty_info_entry.encode({ termios: { cIflag: 0 }, ...terminal }).finish());
  await writeFile(join(dir, 'tty-info.img'), image(0x59453036, entries));
  expect(await needsTerminal(dir)).toBe(needed);
});

test('a dump without terminals has no image of them', async () => {
  expect(await needsTerminal(dir)).toBe(false);
});
