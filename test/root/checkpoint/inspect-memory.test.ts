/** What is found in a dumped process's memory, and where. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import {
  checkpoint,
  readMemory,
  searchMemory,
  type MemoryMatch,
  type SearchMemoryOptions,
} from '../../../src/index.js';
import { startDetached } from '../../fixtures/detached.js';
import { until } from '../../fixtures/criu.js';
import { forge, takeApart, type Forgery } from '../../fixtures/forge-archive.js';
import { stillframe } from '../../fixtures/program.js';

const PAGE = 4096;
/** Four mebibytes, so that a search reads them in several pieces; a needle lies across the border of two pages. */
const PROGRAM = `
import ctypes, mmap, os, sys, time
private = mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
private.write(b'.' * (4 << 20))
shared = mmap.mmap(-1, 1 << 20)
at = lambda area: ctypes.addressof(ctypes.c_char.from_buffer(area))
key = bytes(reversed(b'eldeen-'))
# The kernel merges mappings beside each other: the place is told by the address.
private[${PAGE} - 3:${PAGE} + 5] = key + b'A'
private[(1 << 19) - 4:(1 << 19) + 4] = key + b'B'
shared[2 * ${PAGE}:2 * ${PAGE} + 8] = key + b'C'
open(sys.argv[1] + '.tmp', 'w').write(f'{at(private)} {at(shared)}')
os.rename(sys.argv[1] + '.tmp', sys.argv[1])
time.sleep(1000)
`;

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  return () => rmSync(dir, { recursive: true, force: true });
});

interface Made {
  archive: string;
  pid: number;
  private: number;
  shared: number;
}

let made: Made | undefined;
async function archived(): Promise<Made> {
  if (made !== undefined) return made;
  const [program, ready, archive] = [join(dir, 'program.py'), join(dir, 'ready'), join(dir, 'a.tar')];
  writeFileSync(program, PROGRAM);
  const { pid } = await startDetached('python3', [program, ready]);
  await until(() => existsSync(ready), 'the memory is written');
  await checkpoint({ pid, adopt: true, stop: true, output: archive, stateDir: join(dir, 'state') });
  const [inPrivate = 0, inShared = 0] = readFileSync(ready, 'utf8').split(' ').map(Number);
  made = { archive, pid, private: inPrivate, shared: inShared };
  return made;
}

async function search(archive: string, options: Omit<SearchMemoryOptions, 'onMatch'>) {
  const matches: MemoryMatch[] = [];
  const found = await searchMemory(archive, { ...options, onMatch: (match) => void matches.push(match) });
  return { matches, found };
}

const hex = (address: number): string => `0x${address.toString(16)}`;

it.each([
  ['a text', { text: '-needle' }],
  ['a regular expression', { regex: '-n[e]+dle' }],
])('%s is found where it lies, across pages and pieces, and in shared memory', async (_, wanted) => {
  const { archive, pid, ...at } = await archived();
  const { matches, found } = await search(archive, { pid, ...wanted });
  const places = new Map(matches.map((match) => [match.address, match]));
  expect(
    places
      .get(hex(at.private + PAGE - 3))
      ?.after.toString('latin1')
      .slice(0, 2),
  ).toBe('A.');
  expect(places.get(hex(at.private + PAGE - 3))?.before.toString('latin1')).toBe('.'.repeat(32));
  expect(
    places
      .get(hex(at.private + (1 << 19) - 4))
      ?.after.toString('latin1')
      .slice(0, 2),
  ).toBe('B.');
  expect(places.get(hex(at.shared + 2 * PAGE))?.after.toString('latin1')[0]).toBe('C');
  expect(matches.every(({ match }) => match.toString() === '-needle')).toBe(true);
  expect(found).toMatchObject({ matches: matches.length, missingBytes: 0 });
  expect(found.searchedBytes).toBeGreaterThan(4 << 20);
});

it('a range is read as it was, and what the archive does not have is told of', async () => {
  const { archive, pid, ...at } = await archived();
  const pieces: { address: number; bytes: number; data: Buffer | undefined }[] = [];
  const range = { start: at.private + PAGE - 3, end: at.private + PAGE + 5 };
  await readMemory(archive, { pid, ...range, onBytes: (piece) => void pieces.push(piece) });
  expect(Buffer.concat(pieces.map(({ data }) => data ?? Buffer.alloc(0))).toString()).toBe('-needleA');
  pieces.length = 0;
  await readMemory(archive, { pid, start: 4096, end: 8192, onBytes: (piece) => void pieces.push(piece) });
  expect(pieces).toEqual([{ address: 4096, bytes: 4096, data: undefined }]);
});

it('the command prints matches and bytes with their addresses', async () => {
  const { archive, pid, ...at } = await archived();
  const found = await stillframe('inspect', archive, '--mem', String(pid), '--search', '-needleA');
  expect(found).toMatchObject({ status: 0, stderr: '' });
  expect(found.stdout).toMatch(new RegExp(`^${hex(at.private + PAGE - 3)} .*\\.-needleA\\.`, 'm'));
  const json = await stillframe('inspect', archive, '--mem', String(pid), '--regex', 'no such [t]hing', '--json');
  expect(JSON.parse(json.stdout)).toMatchObject({ matches: [], missingBytes: 0 });
  const dump = await stillframe(
    'inspect',
    archive,
    '--mem',
    String(pid),
    '--hexdump',
    `${hex(at.private + PAGE - 3)}+8`,
  );
  expect(dump.stdout).toMatch(/ {2}2d 6e 65 65 64 6c 65 41 +\|-needleA\|$/m);
  expect(await stillframe('inspect', archive, '--mem', String(pid))).toMatchObject({ status: 2 });
  expect(await stillframe('inspect', archive, '--search', 'x')).toMatchObject({ status: 2 });
});

it('a process that is not there, and memory that is cut, are said', async () => {
  const { archive, pid } = await archived();
  await expect(search(archive, { pid: pid + 1, text: 'x' })).rejects.toMatchObject({
    code: 'NOT_IN_CHECKPOINT',
    facts: { archivePath: archive, pid: pid + 1 },
  });
  const forgery: Required<Forgery> = await takeApart(archive);
  const members = forgery.members.map((member) => {
    if (!/^checkpoint\/pages-/.test(String(member.name))) return member;
    const { head: _, ...rest } = member;
    const stored = (member.stored as Buffer).subarray(0, PAGE);
    return { ...rest, stored, size: stored.length };
  });
  const cut = join(dir, 'cut.tar');
  writeFileSync(cut, forge({ ...forgery, members }));
  await expect(search(cut, { pid, text: 'no such thing' })).rejects.toMatchObject({
    code: 'ARCHIVE_DAMAGED',
    facts: { member: expect.stringMatching(/^checkpoint\/pages-\d+\.img$/) as string },
  });
});
