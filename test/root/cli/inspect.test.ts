/** `inspect` of archives with very many members: nothing of the list is held, and the reader may stop at any line. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeHeader, END_OF_ARCHIVE } from '../../../src/archive/format/tar-encode.js';
import { inspect, type ArchiveInspection } from '../../../src/index.js';
import { program, run } from '../../fixtures/program.js';

/** More than a call can have arguments. */
const COUNT = 130_000;
/** MiB: a list of so many members does not fit, and the command alone needs some 12. */
const HEAP = 24;

let dir: string;
let archive: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  archive = join(dir, 'many.tar');
  const members = Array.from({ length: COUNT }, (_, i) =>
    encodeHeader({ name: Buffer.from(`dir/m${i}`), type: 'file', mode: 0o644, uid: 0, gid: 0, size: 0, mtimeNs: 0n }),
  );
  writeFileSync(archive, Buffer.concat([...members, END_OF_ARCHIVE]));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const asked = (...args: string[]): string[] => [`--max-old-space-size=${HEAP}`, program, 'inspect', archive, ...args];

describe(`inspect of ${COUNT} members`, () => {
  it('lists each of them in a bounded heap', async () => {
    const { status, stdout, stderr } = await run(process.execPath, asked('--members'));
    expect([status, stderr]).toEqual([0, '']);
    const lines = stdout.toString().trimEnd().split('\n');
    expect(lines.slice(COUNT).join('\n')).toMatch(new RegExp(`^members: +${COUNT} \\(0 B\\)$`, 'm'));
    expect(lines[0]).toBe('type  bytes  member');
    expect(lines.indexOf('')).toBe(COUNT + 1);
    expect(lines[COUNT]).toMatch(new RegExp(`^file +0 +dir/m${COUNT - 1}$`));
  }, 180_000);

  it('prints them as one JSON document in a bounded heap', async () => {
    const { status, stdout, stderr } = await run(process.execPath, asked('--json'));
    expect([status, stderr]).toEqual([0, '']);
    const { members, memberCount } = JSON.parse(stdout.toString()) as ArchiveInspection;
    expect([members.length, memberCount]).toEqual([COUNT, COUNT]);
    expect(members.at(-1)).toEqual({ name: `dir/m${COUNT - 1}`, type: 'file', bytes: 0 });
  }, 180_000);

  it.each([['--members'], ['--json']])('%s ends quietly, and soon, when its reader has read enough', async (flag) => {
    const child = spawn(process.execPath, asked(flag), { stdio: ['ignore', 'pipe', 'pipe'] });
    const said = text(child.stderr);
    child.stdout.once('data', () => child.stdout.destroy());
    const [status, signal] = (await once(child, 'close')) as [number | null, string | null];
    expect([status, signal, await said]).toEqual([0, null, '']);
  });
});

it('inspect() hands out the members one by one, at the pace of whoever takes them', async () => {
  const taken: string[] = [];
  let atWork = 0;
  const stop = new Error('enough');
  const error: unknown = await inspect(archive, {
    onMember: async ({ name }) => {
      expect(++atWork).toBe(1);
      taken.push(name);
      await Promise.resolve();
      atWork--;
      if (taken.length === 3) throw stop;
    },
  }).catch((reason: unknown) => reason);
  expect(error).toBe(stop);
  expect(taken).toEqual(['dir/m0', 'dir/m1', 'dir/m2']);
});
