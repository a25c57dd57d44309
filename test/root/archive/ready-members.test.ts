/** Most files' members are made in C, all others in TypeScript: an archive must not show which was which. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  linkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { entryOf, typeOf } from '../../../src/archive/members/describe-entry.js';
import { MEMBER_DIGESTS, Room, type Described, type Description } from '../../../src/archive/members/description.js';
import { ScannedTree } from '../../../src/archive/scan/scanned-tree.js';
import { ArchiveWriter, openArchive, Stage, verifyArchive, type TreeLayout } from '../../../src/archive/index.js';
import { MEMBERS_SHA256 } from '../../../src/archive/format/manifest.js';
import { encodeHeader, padding } from '../../../src/archive/format/tar-encode.js';

let dir: string;
let root: string;
const usual = new Set<string>();

function file(name: string, bytes: number, more: (path: Buffer) => void = () => undefined): void {
  const path = Buffer.concat([Buffer.from(`${root}/`), Buffer.from(name, 'latin1')]);
  writeFileSync(path, Buffer.alloc(bytes, name));
  more(path);
}

function usualFile(name: string, bytes: number, more?: (path: Buffer) => void): void {
  usual.add(name);
  file(name, bytes, more);
}

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  root = join(dir, 'tree');
  mkdirSync(root);
  for (const bytes of [0, 1, 511, 512, 513, 32 * 1024]) usualFile(`size-${bytes}`, bytes);
  for (const bytes of [32 * 1024 + 1, 128 * 1024, 128 * 1024 + 1, 3_000_001]) file(`size-${bytes}`, bytes);
  // With the prefix `tree/`, names of up to 100 bytes fit the header.
  for (const length of [94, 95, 96, 97, 98, 99, 100, 101, 255]) usualFile('n'.repeat(length), 3);
  usualFile('bytes \xff\xfe\n\\\x01', 5);
  usualFile('whole-second', 5, (path) => utimesSync(path, 1_700_000_000, 1_700_000_000));
  usualFile('epoch', 5, (path) => utimesSync(path, 0, 0));
  usualFile('first-nanosecond', 5, (path) => execFileSync('touch', ['-d', '@7.000000001', path.toString()]));
  usualFile('owner-that-fits', 5, (path) => chownSync(path, 0o7777777, 0o7777777));
  usualFile('setuid', 5, (path) => chmodSync(path, 0o6711));
  file('owner-too-large', 5, (path) => chownSync(path, 0o7777777 + 1, 0));
  file('group-too-large', 5, (path) => chownSync(path, 0, 0o7777777 + 1));
  file('before-1970', 5, (path) => execFileSync('touch', ['-d', '@-1.5', path.toString()]));
  file('attribute', 5, (path) => execFileSync('setfattr', ['-n', 'user.x', '-v', 'y', path.toString()]));
  file('linked', 5, (path) => linkSync(path, join(root, 'linked-again')));
  file('linked to a long name', 5, (path) => linkSync(path, join(root, 'l'.repeat(255))));
  file('hole', 0, (path) => execFileSync('truncate', ['-s', '9000', path.toString()]));
  symlinkSync('epoch', join(root, 'link'));
  let deep = '';
  for (let depth = 0; depth < 5; depth++) {
    deep += `${String(depth).repeat(200)}/`;
    mkdirSync(join(root, deep));
    if (depth < 4) usualFile(`${deep}deep`, 5);
    else file(`${deep}deep`, 5);
  }
});

afterAll(() => rmSync(dir, { recursive: true, force: true }));

test('a member made in C is the one that TypeScript makes, to the byte, and so are its hashes', async () => {
  const tree = new ScannedTree(root);
  await tree.scan();
  const added = Uint32Array.from([...tree.news('added')].flatMap((ids) => [...ids]));
  const [whole, parts] = [new Room(1 << 20), new Room(1 << 20)];
  const { ready } = await whole.describe(tree.handle, added, { hash: true, prefix: Buffer.from('tree/') });
  const description = await parts.describe(tree.handle, added, { hash: true, prefix: undefined });
  expect(description.ready).toBe(0);
  const entries = new Map(entriesOf(description).map((entry) => [entry.id, entry]));
  const made: string[] = [];
  for (let i = 0; i < ready; i++) {
    const described = entries.get(whole.id(i)) ?? expect.fail(`${whole.id(i)} was not described`);
    const name = described.path.toString('latin1');
    made.push(name);
    const header = encodeHeader(
      entryOf(
        described,
        typeOf(described) ?? expect.fail('a socket'),
        Buffer.concat([Buffer.from('tree/'), described.path]),
      ),
    );
    const contents = parts.data.subarray(described.dataAt, described.dataAt + described.size);
    const zeros = Buffer.alloc(padding(contents.length));
    const expected = Buffer.concat([header, contents, zeros]);
    expect([whole.headerBytes(i), whole.dataBytes(i)]).toEqual([header.length, contents.length]);
    expect(whole.data.subarray(whole.at(i), whole.at(i) + expected.length).equals(expected), name).toBe(true);
    expect(
      whole.digests
        .subarray(i * MEMBER_DIGESTS, (i + 1) * MEMBER_DIGESTS)
        .equals(Buffer.concat([sha256(header, zeros), sha256(contents)])),
      name,
    ).toBe(true);
  }
  tree.close();
  expect(made.sort()).toEqual([...usual].sort());
});

test('what has no room with the others is told, and described without its data', async () => {
  const tree = new ScannedTree(root);
  await tree.scan();
  const added = Uint32Array.from([...tree.news('added')].flatMap((ids) => [...ids]));
  const room = new Room(40 * 1024);
  const description = await room.describe(tree.handle, added, { hash: false, prefix: Buffer.from('tree/') });
  const described = [
    ...Array.from({ length: description.ready }, (_, i) => room.id(i)),
    ...entriesOf(description).map(({ id }) => id),
  ];
  expect(described.sort((a, b) => a - b)).toEqual([...added].sort((a, b) => a - b));
  const unread = entriesOf(description).filter(
    ({ mode, size, data, dataAt }) => mode >> 12 === 8 && size <= 32 * 1024 && data === undefined && dataAt < 0,
  );
  expect(description.unread).toBe(unread.length);
  expect(unread.length).toBeGreaterThan(0);
  tree.close();
});

function entriesOf(description: Description): Described[] {
  return [...description.records()].map((record) => description.entry(record));
}

function sha256(...parts: Buffer[]): Buffer {
  return createHash('sha256').update(Buffer.concat(parts)).digest();
}

test.each(['members', 'nested'] as const)(
  'archives of layout %s are the same, whoever made the members',
  async (layout) => {
    const [made, seen] = [await archive(layout, false), await archive(layout, true)];
    expect(made.length).toBeGreaterThan(3_000_000);
    expect(made.equals(seen)).toBe(true);
  },
);

/** What comes before the list of members. A filter, which wants to see entries, keeps C from making members. */
async function archive(layout: TreeLayout, filtered: boolean): Promise<Buffer> {
  const outputPath = join(dir, `${layout}-${String(filtered)}.tar`);
  await using writer = await ArchiveWriter.create({ outputPath });
  const stage = new Stage(writer, [
    { path: root, name: 'tree', layout, ...(filtered ? { filter: (entry) => entry } : {}) },
  ]);
  await stage.precopy({ mapped: () => new Set() });
  await stage.refresh({ mapped: new Set(), writable: () => new Set() });
  await writer.seal({ subject: {} });
  const opened = await openArchive(outputPath);
  await verifyArchive(opened);
  await opened.close();
  const bytes = readFileSync(outputPath);
  // A nested tree's own header has the time at which it was made.
  return bytes.subarray(layout === 'nested' ? 1536 : 0, bytes.indexOf(MEMBERS_SHA256));
}
