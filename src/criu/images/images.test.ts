import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { CriuError } from '../errors/criu-error.js';
import {
  file_entry,
  pstree_entry,
  remap_file_path_entry,
  remap_type,
  tty_info_entry,
  TtyType,
} from '../generated/criu.js';
import { readDumpedFiles } from './files.js';
import { readInventory } from './inventory.js';
import { readPstree } from './pstree.js';
import { readDumpStats } from './stats.js';
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

test('entries across the chunks of a large image come out whole', async () => {
  const entries = Array.from({ length: 20_000 }, (_, i) => ({ ...process1, pid: i + 1 }));
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

test('any bytes behind the magic are entries or CRIU_IMAGE', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), async (bytes) => {
      const result = await pstree(Buffer.concat([u32(COMMON), u32(PSTREE), bytes])).catch((caught: unknown) => caught);
      expect(Array.isArray(result) || (result instanceof CriuError && result.code === 'CRIU_IMAGE')).toBe(true);
    }),
    { numRuns: 300 },
  );
});

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
