import { spawnSync } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { createGunzip, gzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import {
  archiveOf,
  claimingHeader,
  hostileHeader,
  tarOf,
  tree,
  withScratch,
  writeArchive,
  type FixtureMember,
} from './archive-fixture.js';
import { printable } from '../../../src/archive/format/byte-text.js';
import { inspect, readMember, restore, verify } from '../../../src/index.js';

const members: FixtureMember[] = [
  { name: 'data', type: 'directory' },
  { name: Buffer.from(`data/${'long'.repeat(60)} \xff`, 'latin1'), stored: 'x'.repeat(70_000) },
  { name: 'data/link', type: 'symlink', linkname: '/etc/passwd' },
  { name: 'data/empty' },
  { name: 'data/sparse', size: 1 << 20, stored: Buffer.alloc(4096, 1), data: [{ offset: 65536, length: 4096 }] },
];
const good = archiveOf(members, [tree('data', 5)]);

/** Fails where anything would be stored: the system's directory for temporary files does not exist. */
function withoutTmpDir(): void {
  vi.stubEnv('TMPDIR', '/does/not/exist');
  onTestFinished(() => void vi.unstubAllEnvs());
}

function zstd(bytes: Buffer): Buffer {
  return spawnSync('zstd', ['-q', '-c'], { input: bytes, maxBuffer: 1 << 28 }).stdout;
}

const streamOf = (bytes: Buffer, size = 1000): Readable =>
  Readable.from(
    (function* () {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    })(),
  );

describe('what comes in order only', () => {
  it('is inspected and read as a plain file is, and stored nowhere', () =>
    withScratch(async (dir) => {
      withoutTmpDir();
      const plain = await inspect(await writeArchive(dir, good));
      expect(plain.members.map(({ name }) => name).slice(0, members.length)).toEqual(
        members.map(({ name }) => printable(Buffer.from(name))),
      );
      const sparse = await readMember(await writeArchive(dir, good), 'data/sparse');
      expect(sparse.length).toBe(1 << 20);
      for (const [compression, bytes] of [
        ['none', good],
        ['gzip', gzipSync(good)],
        ['zstd', zstd(good)],
      ] as const) {
        const path = join(dir, compression);
        await writeFile(path, bytes);
        const sources = [() => createReadStream(path), () => streamOf(bytes, 7), () => path];
        for (const source of sources) {
          const { members: listed, manifest, ...found } = await inspect(source());
          expect(found).toMatchObject({ compression, foreign: undefined });
          expect({ listed, manifest }).toEqual({ listed: plain.members, manifest: plain.manifest });
          expect((await readMember(source(), 'data/sparse')).equals(sparse)).toBe(true);
          await expect(readMember(source(), 'data/sparse', { maxBytes: 100 })).rejects.toMatchObject({
            code: 'MEMBER_TOO_BIG',
          });
          await expect(readMember(source(), 'none')).rejects.toMatchObject({ code: 'MEMBER_MISSING' });
        }
      }
    }));

  it.each(['ustar', 'gnu', 'posix'])("is GNU tar's %s format as tar-stream reads it", (format) =>
    withScratch(async (dir) => {
      const at = join(dir, 'tree', 'deep'.repeat(20));
      await mkdir(at, { recursive: true });
      await writeFile(join(at, 'hello'), 'hello, world');
      await symlink('hello', join(at, 'again'));
      const path = join(dir, 'a.tar.gz');
      expect(spawnSync('tar', ['-czf', path, `--format=${format}`, '-C', dir, 'tree']).status).toBe(0);
      const theirs: unknown[] = [];
      for await (const entry of createReadStream(path).pipe(createGunzip()).pipe(extract())) {
        const { name, type, size } = entry.header;
        theirs.push({ name: name.replace(/\/$/, ''), type, bytes: size });
        entry.resume();
      }
      expect((await inspect(createReadStream(path))).members).toEqual(theirs);
      expect(theirs.length).toBe(4);
    }),
  );

  it('is read as far as it is needed, from a source that then falls silent', async () => {
    const silent = new PassThrough();
    silent.write(good.subarray(0, 80_000));
    expect((await readMember(silent, 'data/empty')).length).toBe(0);
    expect(silent.destroyed).toBe(true);
    const packed = new PassThrough();
    packed.write(gzipSync(good.subarray(0, 80_000)));
    expect((await readMember(packed, 'data/empty')).length).toBe(0);
    expect(packed.destroyed).toBe(true);
  });

  it('is none where there is not one member, in a file as in a stream', () =>
    withScratch(async (dir) => {
      for (const bytes of [0, 1024]) {
        const file = join(dir, `${bytes}.tar`);
        await writeFile(file, Buffer.alloc(bytes));
        await expect(inspect(file)).rejects.toMatchObject({ code: 'NOT_AN_ARCHIVE' });
        await expect(inspect(createReadStream(file))).rejects.toMatchObject({
          code: expect.stringMatching(bytes === 0 ? /TRUNCATED/ : /NOT_AN/) as string,
        });
      }
    }));

  it('is named in errors where it is cut short or damaged', async () => {
    const code = async (bytes: Buffer): Promise<unknown> =>
      inspect(streamOf(bytes)).then(
        () => 'none',
        (error: unknown) => error,
      );
    const message = expect.stringContaining('(a stream)') as string;
    const packed = gzipSync(good);
    for (const end of [100, 1500, 40_000, good.length - 1500])
      expect(await code(good.subarray(0, end))).toMatchObject({ code: 'ARCHIVE_TRUNCATED', message });
    for (const end of [20, packed.length - 4])
      expect(await code(packed.subarray(0, end))).toMatchObject({ code: 'ARCHIVE_TRUNCATED', message });
    // The checksum of the whole, which comes last.
    packed[packed.length - 6]! ^= 1;
    expect(await code(packed)).toMatchObject({ code: 'ARCHIVE_DAMAGED', message });
    expect(await code(Buffer.alloc(4096, 'text'))).toMatchObject({ code: 'NOT_AN_ARCHIVE', message });
    expect(await code(gzipSync(Buffer.alloc(4096, 'text')))).toMatchObject({ code: 'NOT_AN_ARCHIVE', message });
    const cut = zstd(good);
    expect(await code(cut.subarray(0, cut.length - 10))).toMatchObject({
      code: expect.stringMatching(/^ARCHIVE_(DAMAGED|TRUNCATED)$/) as string,
    });
  });

  it('ends with the reason of its signal, however silent the source', async () => {
    for (const bytes of [good, gzipSync(good)]) {
      const silent = new PassThrough();
      silent.write(bytes.subarray(0, 200));
      const cancel = new AbortController();
      const inspected = inspect(silent, { signal: cancel.signal });
      setTimeout(() => cancel.abort(new Error('enough')), 20);
      await expect(inspected).rejects.toThrow('enough');
      expect(silent.destroyed).toBe(true);
    }
  });
});

describe('a hostile archive that comes in order only', () => {
  it.each(['gzip', 'zstd'])('of %s is unpacked as far as the limit', (program) =>
    withScratch(async (dir) => {
      const path = join(dir, 'bomb');
      const input = tarOf(Array.from({ length: 64 }, (_, i) => ({ name: `m${i}`, stored: Buffer.alloc(1 << 20) })));
      await writeFile(path, spawnSync(program, ['-c'], { input, maxBuffer: 1 << 20 }).stdout);
      for (const maxUnpackedBytes of [1 << 20, NaN])
        await expect(inspect(path, { maxUnpackedBytes })).rejects.toMatchObject({ code: 'ARCHIVE_TOO_BIG' });
      // A member of this size comes after the limit, not before it.
      await expect(
        inspect(streamOf(tarOf([{ name: 'big', stored: Buffer.alloc(2 << 20) }])), { maxUnpackedBytes: 1 << 20 }),
      ).rejects.toMatchObject({ code: 'ARCHIVE_TOO_BIG' });
      expect(await readdir(dir)).toEqual(['bomb']);
    }),
  );

  it('makes no headers or names of any length, and no member that never ends', async () => {
    const endless = new PassThrough();
    for (const flag of ['x', 'g', 'L', 'K']) {
      const source = new PassThrough();
      source.write(claimingHeader(flag, 5 << 20));
      // Refused by what it claims: no byte of it ever comes.
      await expect(inspect(source)).rejects.toMatchObject({ code: 'ARCHIVE_DAMAGED' });
    }
    endless.end(claimingHeader('0', 2 ** 32));
    await expect(inspect(endless)).rejects.toMatchObject({ code: 'ARCHIVE_TRUNCATED', facts: { member: 'x' } });
    const names = tarOf(members.slice(0, 1), () => hostileHeader({ name: '\x1b]0;x\x07' }));
    expect((await inspect(streamOf(names))).members[0]?.name).toBe('\\x1b]0;x\\x07');
  });
});

describe('an endless source', () => {
  const member = tarOf([{ name: 'config.dump', mtimeNs: 0n, stored: 'x'.repeat(512) }]).subarray(0, 1024);
  const end = Buffer.alloc(1024);
  const packings = {
    plain: (bytes: Buffer) => bytes,
    gzip: (bytes: Buffer) => gzipSync(bytes),
    zstd,
  };
  type Packing = keyof typeof packings;
  const names = Object.keys(packings) as Packing[];

  /** These bytes, and zeros without end, packed piece by piece. */
  function endless(head: Buffer, packing: Packing): Readable {
    const pack = packings[packing];
    const [first, zeros] = [pack(head), pack(Buffer.alloc(1 << 20))];
    const pieces = function* () {
      yield first;
      for (;;) yield zeros;
    };
    return Readable.from(pieces());
  }

  const readers = [
    (source: Readable) => inspect(source),
    (source: Readable) => readMember(source, 'nothing'),
    (source: Readable) => verify(source, { maxUnpackedBytes: 1 << 28 }),
  ];
  it.each(names)('that is no tar is refused when its first block has come (%s)', async (packing) => {
    for (const reader of readers)
      for (const head of [Buffer.alloc(512), Buffer.alloc(512, 'x')])
        await expect(reader(endless(head, packing))).rejects.toMatchObject({ code: 'NOT_AN_ARCHIVE' });
  });

  it.each(names)('is refused soon after the end of its tar (%s)', async (packing) => {
    for (const reader of readers)
      await expect(reader(endless(Buffer.concat([member, end]), packing))).rejects.toMatchObject({
        code: 'ARCHIVE_DAMAGED',
        message: expect.stringContaining('follow its end') as string,
      });
  });

  it.each(names)('that claims more than is allowed is refused before it comes (%s)', async (packing) => {
    const claiming = claimingHeader('0', 2 ** 32);
    const options = { maxUnpackedBytes: 1 << 20 };
    for (const read of [
      () => inspect(endless(claiming, packing), options),
      () => readMember(endless(claiming, packing), 'nothing', options),
      () => verify(endless(claiming, packing), options),
    ])
      await expect(read()).rejects.toMatchObject({
        code: 'ARCHIVE_TOO_BIG',
        message: expect.stringContaining('claims, for its member x,') as string,
      });
  });
});

describe('the archive of another engine', () => {
  it('is recognized everywhere where tar packed it from within its directory', () =>
    withScratch(async (dir) => {
      const content = join(dir, 'content');
      await mkdir(content);
      await writeFile(join(content, 'config.dump'), '{}');
      await writeFile(join(content, 'spec.dump'), '{}');
      const path = join(dir, 'a.tar');
      expect(spawnSync('tar', ['-cf', path, '-C', content, '.']).status).toBe(0);
      expect(await inspect(path)).toMatchObject({ foreign: {}, manifest: undefined });
      expect(await verify(path)).toMatchObject({ foreign: {}, manifest: undefined });
      await expect(restore({ archive: path })).rejects.toMatchObject({ code: 'NOT_AN_ARCHIVE' });
    }));

  const documents = (config: unknown, annotations: unknown): Buffer =>
    gzipSync(
      tarOf([
        { name: 'checkpoint', type: 'directory' },
        { name: 'config.dump', stored: JSON.stringify(config) },
        { name: 'spec.dump', stored: JSON.stringify({ annotations }) },
      ]),
    );

  it.each([
    ['Podman', { 'io.container.manager': 'libpod' }],
    ['CRI-O', { 'io.container.manager': 'cri-o' }],
    ['containerd', { 'io.kubernetes.cri.container-type': 'container' }],
    ['another', { 'io.container.manager': 'another' }],
    [undefined, {}],
  ])('is recognized: %s', async (engine, annotations) => {
    const config = {
      id: '1234',
      name: 'web',
      rootfsImageName: 'example/web:1',
      runtime: 'crun',
      checkpointedTime: 'T',
    };
    const { foreign } = await inspect(streamOf(documents(config, annotations)));
    expect(foreign).toEqual({
      ...(engine === undefined ? {} : { engine }),
      id: '1234',
      name: 'web',
      image: 'example/web:1',
      runtime: 'crun',
      checkpointedAt: 'T',
      ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
    });
  });

  it('says only what is text, of bounded length, without escape sequences', async () => {
    const config = { id: 7, name: '\x1b[2Jx', rootfsImageName: 'i'.repeat(10_000), runtime: ['crun'] };
    const { foreign } = await inspect(streamOf(documents(config, { 'io.container.manager': '__proto__' })));
    const annotations = { 'io.container.manager': '__proto__' };
    expect(foreign).toEqual({ engine: '__proto__', name: '\\x1b[2Jx', image: 'i'.repeat(300), annotations });
    for (const wrong of [[], null, 'text', 7])
      expect((await inspect(streamOf(documents(wrong, {})))).foreign).toBeUndefined();
  });
});
