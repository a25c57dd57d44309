import { spawnSync } from 'node:child_process';
import { mkdtemp, open, readdir, rm, stat, writeFile, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  archiveOf,
  claimingHeader,
  tarOf,
  toEntry,
  tree,
  withScratch,
  writeArchive,
  type FixtureMember,
} from '../../../test/root/archive/archive-fixture.js';
import { readVerifiedMember } from '../extract/extract.js';
import { FORMAT_VERSION, MANIFEST_JSON, MEMBERS_SHA256 } from '../format/manifest.js';
import type { MemberInTurn } from './chunked-members.js';
import { openArchive, walkMembers, type OpenArchive } from './reader.js';
import { encodeHeader } from '../format/tar-encode.js';
import { inspectArchive } from './inspect.js';
import { verifyArchive, type VerifiedArchive } from './verify.js';

const members: FixtureMember[] = [
  {
    name: 'data',
    type: 'directory',
    xattrs: [{ name: Buffer.from('user.a=b'), value: Buffer.from([0, 10, 61, 255]) }],
  },
  { name: 'data/hello', stored: 'hello, world' },
  { name: Buffer.from('data/back\\slash\nline \xff', 'latin1'), stored: Buffer.alloc(1500, 7) },
  { name: 'data/empty' },
  { name: 'data/again', type: 'hardlink', linkname: 'data/hello' },
  { name: 'data/link', type: 'symlink', linkname: '/etc/passwd' },
  { name: 'data/sparse', size: 1 << 20, stored: Buffer.alloc(4096, 1), data: [{ offset: 65536, length: 4096 }] },
  { name: 'single', stored: 'one file' },
  {
    name: 'inner.tar',
    stored: tarOf([
      { name: '.', type: 'directory' },
      { name: 'file', stored: 'inner' },
    ]),
  },
  { name: 'checkpoint', type: 'directory' },
  { name: 'checkpoint/pages-1.img', stored: Buffer.alloc(9000, 3) },
  { name: 'dump.log', stored: 'log' },
];
const trees = [tree('data', 7), tree('single', 1), tree('inner.tar', 2, 'nested')];
const good = archiveOf(members, trees);

async function verifyBytes(dir: string, bytes: Buffer): Promise<VerifiedArchive> {
  await using archive = await openArchive(await writeArchive(dir, bytes));
  return await verifyArchive(archive);
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'none',
    (error: unknown) => {
      expect(error).toMatchObject({ name: 'ArchiveError' });
      return (error as { code: string }).code;
    },
  );
}

describe('verifyArchive', () => {
  it('accepts a good archive and says where everything is', () =>
    withScratch(async (dir) => {
      await using archive = await openArchive(await writeArchive(dir, good));
      const verified = await verifyArchive(archive);
      expect(verified.manifest.subject).toEqual({ test: true });
      expect([...verified.members.keys()].slice(0, 2)).toEqual(['data', 'single']);
      expect(verified.trees.map(({ name }) => name.toString())).toEqual(['data', 'single', 'inner.tar']);
      expect((await readVerifiedMember(verified, 'dump.log', 100)).toString()).toBe('log');
      const sparse = await readVerifiedMember(verified, 'data/sparse', 1 << 20);
      expect(
        sparse.equals(Buffer.concat([Buffer.alloc(65536), Buffer.alloc(4096, 1), Buffer.alloc((1 << 20) - 69632)])),
      ).toBe(true);
      expect(await codeOf(readVerifiedMember(verified, 'data/sparse', 1000))).toBe('MEMBER_TOO_BIG');
      expect(await codeOf(readVerifiedMember(verified, 'nothing', 1000))).toBe('MEMBER_MISSING');
    }));

  it('writes a list that sha256sum accepts', () =>
    withScratch(async (dir) => {
      const plain = members.filter(({ name }) => name !== 'data/sparse');
      const path = await writeArchive(dir, archiveOf(plain, [tree('data', 6), ...trees.slice(1)]));
      expect(spawnSync('tar', ['-xf', path, '-C', dir]).stderr.toString()).toBe('');
      const check = spawnSync('sha256sum', ['--strict', '-c', MEMBERS_SHA256, 'stillframe/manifest.sha256'], {
        cwd: dir,
      });
      expect(check.stderr.toString()).toBe('');
      expect(check.status).toBe(0);
      expect(check.stdout.toString().trim().split('\n')).toHaveLength(8);
    }));

  describe('on the same bytes, changed', () => {
    let dir: string;
    let handle: FileHandle;
    let path: string;
    beforeAll(async () => {
      dir = await mkdtemp(join(tmpdir(), 'stillframe-test-'));
      path = await writeArchive(dir, good);
      handle = await open(path, 'r+');
    });
    afterAll(async () => {
      await handle.close();
      await rm(dir, { recursive: true });
    });

    async function verifyPath(): Promise<string> {
      let archive: OpenArchive | undefined;
      try {
        archive = await openArchive(path);
        await verifyArchive(archive);
        return 'none';
      } catch (error) {
        expect(error).toMatchObject({ name: 'ArchiveError' });
        return (error as { code: string }).code;
      } finally {
        await archive?.close();
      }
    }

    it('finds one flipped bit, wherever it is', async () => {
      await fc.assert(
        fc.asyncProperty(fc.nat({ max: good.length - 1 }), fc.integer({ min: 0, max: 7 }), async (at, bit) => {
          const byte = Buffer.from([(good[at] as number) ^ (1 << bit)]);
          await handle.write(byte, 0, 1, at);
          try {
            expect(await verifyPath()).not.toBe('none');
          } finally {
            await handle.write(good, at, 1, at);
          }
        }),
        { numRuns: 1500 },
      );
      expect(await verifyPath()).toBe('none');
    }, 60_000);

    it('finds every flipped bit in the headers of its own last members and in the end', async () => {
      const start = good.length - 1024 - 3 * 1024;
      for (let at = start; at < good.length; at += 1) {
        const byte = Buffer.from([(good[at] as number) ^ (1 << (at % 8))]);
        await handle.write(byte, 0, 1, at);
        expect(await verifyPath(), `byte ${at}`).not.toBe('none');
        await handle.write(good, at, 1, at);
      }
    }, 60_000);

    it('finds a missing end, however much is missing', async () => {
      await fc.assert(
        fc.asyncProperty(fc.nat({ max: good.length - 1 }), async (length) => {
          await handle.truncate(length);
          try {
            expect(await verifyPath()).not.toBe('none');
          } finally {
            await handle.write(good, length, good.length - length, length);
          }
        }),
        { numRuns: 500 },
      );
    }, 60_000);
  });

  it('finds what is not zero after the end, and passes over zeros', () =>
    withScratch(async (dir) => {
      expect(await codeOf(verifyBytes(dir, Buffer.concat([good, Buffer.alloc(10240)])))).toBe('none');
      expect(await codeOf(verifyBytes(dir, Buffer.concat([good, Buffer.alloc(10240), Buffer.from('x')])))).toBe(
        'ARCHIVE_DAMAGED',
      );
    }));

  it('names the member whose data was changed', () =>
    withScratch(async (dir) => {
      const bad = Buffer.from(good);
      bad.write('HELLO', bad.indexOf('hello, world'));
      await expect(verifyBytes(dir, bad)).rejects.toMatchObject({
        code: 'ARCHIVE_DAMAGED',
        facts: { member: 'data/hello' },
      });
    }));

  const hello: FixtureMember = { name: 'data/hello', stored: 'hello' };
  const data: FixtureMember = { name: 'data', type: 'directory' };
  it.each<[string, string, FixtureMember[], ReturnType<typeof tree>[]]>([
    ['a name that leads upwards', 'UNSAFE_PATH', [data, { name: 'data/../../x' }], [tree('data', 2)]],
    ['a name that is there twice', 'UNSAFE_PATH', [data, hello, hello], [tree('data', 3)]],
    [
      'a member below a symbolic link',
      'UNSAFE_PATH',
      [data, { name: 'data/l', type: 'symlink', linkname: '/tmp' }, { name: 'data/l/x' }],
      [tree('data', 3)],
    ],
    [
      'a symbolic link in the place of a directory of others',
      'UNSAFE_PATH',
      [data, { name: 'data/d/x' }, { name: 'data/d', type: 'symlink', linkname: '/tmp' }],
      [tree('data', 3)],
    ],
    [
      'a hard link to no member',
      'UNSAFE_LINK',
      [data, { name: 'data/l', type: 'hardlink', linkname: 'etc/passwd' }],
      [tree('data', 2)],
    ],
    [
      'a hard link to a later member',
      'UNSAFE_LINK',
      [data, { name: 'data/l', type: 'hardlink', linkname: 'data/hello' }, hello],
      [tree('data', 3)],
    ],
    [
      'a hard link to a directory',
      'UNSAFE_LINK',
      [data, { name: 'data/l', type: 'hardlink', linkname: 'data' }],
      [tree('data', 2)],
    ],
    [
      'a member of our own folder that is not ours',
      'ARCHIVE_DAMAGED',
      [data, { name: 'stillframe/extra' }],
      [tree('data', 1)],
    ],
    ['a tree that is not there', 'ARCHIVE_DAMAGED', [data], [tree('data', 1), tree('other', 1)]],
    ['a tree with more entries than the manifest says', 'ARCHIVE_DAMAGED', [data, hello], [tree('data', 1)]],
    ['a tree that does not lie side by side', 'ARCHIVE_DAMAGED', [data, { name: 'other' }, hello], [tree('data', 2)]],
    ['a tree within a tree', 'ARCHIVE_DAMAGED', [data, hello], [tree('data', 2), tree('data/hello', 1)]],
  ])('refuses %s, although all hashes are right', (_, code, hostile, records) =>
    withScratch(async (dir) => {
      expect(await codeOf(verifyBytes(dir, archiveOf(hostile, records)))).toBe(code);
    }),
  );

  it('says that a tar of others is none of ours', () =>
    withScratch(async (dir) => {
      expect(await codeOf(verifyBytes(dir, tarOf([data, hello])))).toBe('NOT_AN_ARCHIVE');
      expect(await codeOf(verifyBytes(dir, Buffer.alloc(4096, 'text')))).toBe('NOT_AN_ARCHIVE');
    }));

  it(
    'does not hold the event loop while it hashes 256 MiB, and stops in the middle at its signal',
    () =>
      withScratch(async (dir) => {
        const path = await writeArchive(
          dir,
          archiveOf([{ name: 'big', stored: Buffer.alloc(256 << 20, 5) }], [tree('big', 1)]),
        );
        await using archive = await openArchive(path);
        let turns = 0;
        const timer = setInterval(() => turns++, 1);
        const start = process.cpuUsage();
        await verifyArchive(archive);
        const spentMs = process.cpuUsage(start).user / 1000;
        clearInterval(timer);
        // Held in one go, there would be none or one.
        expect(turns).toBeGreaterThan(20);

        // One thread has all of it to hash: it is stopped in the middle.
        const reason = new Error('enough');
        const cancel = new AbortController();
        setTimeout(() => cancel.abort(reason), 5);
        const began = process.cpuUsage();
        await expect(verifyArchive(archive, { signal: cancel.signal })).rejects.toBe(reason);
        expect(process.cpuUsage(began).user / 1000).toBeLessThan(spentMs / 2);
      }),
    60_000,
  );

  it('stops at its signal, and tells its progress, among members without data', () =>
    withScratch(async (dir) => {
      const names = Array.from({ length: 4000 }, (_, i) => `data/${i}`);
      const directories = ['data', ...names].map((name): FixtureMember => ({ name, type: 'directory' }));
      const bytes = archiveOf(directories, [tree('data', directories.length)]);
      await using archive = await openArchive(await writeArchive(dir, bytes));
      const cancel = new AbortController();
      const reason = new Error('enough');
      const seen: number[] = [];
      const onProgress = (progress: { bytes: number }): void => {
        seen.push(progress.bytes);
        cancel.abort(reason);
      };
      await expect(verifyArchive(archive, { signal: cancel.signal, onProgress })).rejects.toBe(reason);
      expect(seen).toHaveLength(1);
      expect(seen[0]).toBeLessThan(bytes.length);
    }));

  it('stops when its signal says so', () =>
    withScratch(async (dir) => {
      await using archive = await openArchive(await writeArchive(dir, good));
      await expect(verifyArchive(archive, { signal: AbortSignal.abort() })).rejects.toMatchObject({
        name: 'AbortError',
      });
    }));
});

describe('openArchive', () => {
  it('unpacks gzip to a file without a name, and finds it cut or damaged', () =>
    withScratch(async (dir) => {
      const zipped = gzipSync(good);
      expect(await codeOf(verifyBytes(dir, zipped))).toBe('none');
      await using archive = await openArchive(await writeArchive(dir, zipped), { tmpDir: dir });
      expect(archive.compression).toBe('gzip');
      expect(archive.bytes).toBe(good.length);
      expect(await readdir(dir)).toEqual(['archive.tar']);
      expect(await codeOf(verifyBytes(dir, zipped.subarray(0, -20)))).toBe('ARCHIVE_TRUNCATED');
      const bad = Buffer.from(zipped);
      bad[bad.length >> 1]! ^= 1;
      expect(await codeOf(verifyBytes(dir, bad))).toBe('ARCHIVE_DAMAGED');
    }));

  it.each(['gzip', 'zstd'])('stops a bomb of %s at the limit, and leaves nothing of it', (program) =>
    withScratch(async (dir) => {
      const path = join(dir, 'archive.tar');
      const names = Array.from({ length: 64 }, (_, i) => `member${i}`);
      const plain = tarOf(names.map((name) => ({ name, stored: Buffer.alloc(1 << 20) })));
      await writeFile(path, spawnSync(program, ['-c'], { input: plain, maxBuffer: 1 << 20 }).stdout);
      expect((await stat(path)).size).toBeLessThan(128 << 10);
      expect(await codeOf(openArchive(path, { tmpDir: dir, maxUnpackedBytes: 1 << 20 }))).toBe('ARCHIVE_TOO_BIG');
      expect(await codeOf(openArchive(path, { tmpDir: dir, maxUnpackedBytes: NaN }))).toBe('ARCHIVE_TOO_BIG');
      expect(await readdir(dir)).toEqual(['archive.tar']);
      await using whole = await openArchive(path, { tmpDir: dir });
      expect(whole.bytes).toBe(plain.length);
    }),
  );

  /** The most that zstd can do: four bytes for 128 KiB. Source: RFC 8878, 3.1.1.2, RLE_Block. */
  function zstdFrame(blocks: number, windowLog: number): Buffer {
    const header = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, (windowLog - 10) << 3]);
    const body = Buffer.alloc(blocks * 4);
    for (let i = 0; i < blocks; i++) body.writeUInt32LE(((128 << 10) << 3) | 2 | (i === blocks - 1 ? 1 : 0), i * 4);
    return Buffer.concat([header, body]);
  }

  it('bounds the memory that a frame of zstd asks for, whatever it unpacks to', () =>
    withScratch(async (dir) => {
      const most = zstdFrame(16, 26);
      // It is unpacked, and is zeros.
      await expect(openArchive(await writeArchive(dir, most), { tmpDir: dir })).rejects.toMatchObject({
        code: 'NOT_AN_ARCHIVE',
      });
      for (const windowLog of [27, 31]) {
        const path = await writeArchive(dir, zstdFrame(16, windowLog));
        await expect(openArchive(path, { tmpDir: dir })).rejects.toMatchObject({
          code: 'ARCHIVE_UNSUPPORTED',
          facts: { what: expect.stringContaining('window of more than 64 MiB') as string },
        });
      }
      const header = spawnSync('zstd', ['-c'], { input: claimingHeader('0', 2 ** 30) }).stdout;
      const later = await writeArchive(dir, Buffer.concat([header, zstdFrame(16, 27)]));
      expect(await codeOf(openArchive(later, { tmpDir: dir }))).toBe('ARCHIVE_UNSUPPORTED');
      expect(await readdir(dir)).toEqual(['archive.tar']);
    }));

  it.each([
    ['missing', 'nothing'],
    ['a directory', '.'],
  ])('says why it cannot read a path that is %s', (_, name) =>
    withScratch(async (dir) => {
      expect(await codeOf(openArchive(join(dir, name)))).toBe('ARCHIVE_UNREADABLE');
    }),
  );

  it('does not wait for a writer of a FIFO', () =>
    withScratch(async (dir) => {
      spawnSync('mkfifo', [join(dir, 'fifo')]);
      expect(await codeOf(openArchive(join(dir, 'fifo')))).toBe('ARCHIVE_UNREADABLE');
    }));
});

describe('inspectArchive', () => {
  it('lists the members and the manifest without reading the data', () =>
    withScratch(async (dir) => {
      const bad = Buffer.from(good);
      bad.write('HELLO', bad.indexOf('hello, world'));
      await using archive = await openArchive(await writeArchive(dir, bad));
      const listed: MemberInTurn[] = [];
      const manifest = await inspectArchive(archive, { onMember: (member) => listed.push(member) });
      expect(manifest?.trees).toEqual(trees);
      expect(listed.slice(0, members.length).map(({ entry }) => entry)).toEqual(members.map(toEntry));
      expect(listed.at(-2)?.entry.name.toString()).toBe(MANIFEST_JSON);
    }));

  it.each([
    [FORMAT_VERSION + 1, { code: 'FORMAT_TOO_NEW', facts: { version: FORMAT_VERSION + 1 } }],
    [1, { code: 'ARCHIVE_UNSUPPORTED' }],
  ])('says of version %i that it cannot read it', (version, error) =>
    withScratch(async (dir) => {
      const manifest = Buffer.from(JSON.stringify({ format: 'stillframe', version }));
      await using archive = await openArchive(
        await writeArchive(dir, tarOf([{ name: MANIFEST_JSON, stored: manifest }])),
      );
      await expect(inspectArchive(archive)).rejects.toMatchObject(error);
    }),
  );
});

describe('walkMembers', () => {
  it('refuses a member that claims to be longer than the archive', () =>
    withScratch(async (dir) => {
      const path = join(dir, 'a');
      await writeFile(path, Buffer.concat([encodeHeader(toEntry({ name: 'x', size: 2 ** 50 })), Buffer.alloc(4096)]));
      await using archive = await openArchive(path);
      expect(await codeOf(walkMembers(archive).next())).toBe('ARCHIVE_TRUNCATED');
    }));
});
