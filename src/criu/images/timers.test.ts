import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { file_entry, type timerfd_entry } from '../generated/criu.js';
import { FILES_MAGIC } from './files.js';
import { imageEntries } from './image-file.js';
import { repairTimers } from './timers.js';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'stillframe-test-timers-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

const MONOTONIC = 1;
const REALTIME = 0;
const expired = { id: 1, clockid: MONOTONIC, ticks: 3, settimeFlags: 0, vsec: 0, vnsec: 0, isec: 0, insec: 500_000 };
/** A field that we do not read, in front of the timer's: CRIU writes fields in the order of their numbers. */
const unread = Buffer.from([(2 << 3) | 0, 0x80, 0x10]);

async function write(...timers: timerfd_entry.$Properties[]): Promise<Buffer> {
  const entries = [
    file_entry.encode({ type: 2, id: 9 }).finish(),
    ...timers.map((tfd) => Buffer.concat([unread, file_entry.encode({ type: 17, id: tfd.id, tfd }).finish()])),
  ];
  const image = Buffer.concat([
    u32(0x54564319),
    u32(FILES_MAGIC),
    ...entries.flatMap((entry) => [u32(entry.length), entry]),
  ]);
  await writeFile(join(dir, 'files.img'), image);
  return image;
}

async function read(): Promise<unknown[]> {
  const timers: unknown[] = [];
  for await (const { tfd } of imageEntries(join(dir, 'files.img'), FILES_MAGIC, (data) => file_entry.decode(data))) {
    if (tfd != null) timers.push({ ...tfd, vnsec: Number(tfd.vnsec), settimeFlags: tfd.settimeFlags });
  }
  return timers;
}

test('a periodic timer that had fired and was not read is given a nanosecond, and nothing else changes', async () => {
  const before = await write(expired);
  expect(await repairTimers(dir)).toBe(1);
  expect(await read()).toMatchObject([{ vnsec: 1, settimeFlags: 0 }]);
  const after = await readFile(join(dir, 'files.img'));
  expect(after.filter((byte, i) => byte !== before[i])).toHaveLength(1);
  expect(await repairTimers(dir)).toBe(0);
});

test('an absolute timer becomes a relative one, on a clock that nobody sets', async () => {
  const absolute = { ...expired, settimeFlags: 1, vsec: 5, ticks: 0 };
  await write(absolute, { ...absolute, clockid: REALTIME }, { ...absolute, clockid: REALTIME, settimeFlags: 3 });
  expect(await repairTimers(dir)).toBe(1);
  expect(await read()).toMatchObject([{ settimeFlags: 0 }, { settimeFlags: 1 }, { settimeFlags: 3 }]);
});

test.each([
  ['one that is disarmed and has a period', { ...expired, ticks: 0 }],
  ['one that fired once', { ...expired, insec: 0 }],
  ['one that is armed', { ...expired, vnsec: 7 }],
  ['one with whole seconds left', { ...expired, vsec: 2 }],
])('%s stays as it is', async (_, timer) => {
  const before = await write(timer);
  expect(await repairTimers(dir)).toBe(0);
  expect(await readFile(join(dir, 'files.img'))).toEqual(before);
});
