import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, lstatSync, readFileSync, statSync } from 'node:fs';
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  extractMembers,
  extractTar,
  extractTree,
  openArchive,
  verifyArchive,
  type ExtractedTree,
  type ExtractOptions,
} from '../../../src/archive/index.js';
import {
  archiveOf,
  hostileHeader,
  tarOf,
  tree,
  withScratch,
  writeArchive,
  type FixtureMember,
} from './archive-fixture.js';
import { fingerprint } from './fingerprint.js';
import { bytesName, odd } from './odd-tree.js';
import { unmount } from '../../fixtures/unmount.js';

const SECOND = 1_000_000_000n;

async function extractAll(dir: string, bytes: Buffer, name: string, options: ExtractOptions): Promise<ExtractedTree> {
  await using archive = await openArchive(await writeArchive(dir, bytes));
  return await extractTree({ ...options, verified: await verifyArchive(archive), tree: name });
}

async function extractForeign(path: string, options: ExtractOptions, root = '.'): Promise<ExtractedTree> {
  await using archive = await openArchive(path);
  return await extractTar({ ...options, archive, range: { start: 0, end: archive.bytes }, root });
}

function gnuTar(...args: string[]): void {
  const { status, stderr } = spawnSync('tar', args, { env: { ...process.env, LC_ALL: 'C' } });
  expect(stderr.toString()).toBe('');
  expect(status).toBe(0);
}

describe('extractTree', () => {
  it('makes of the oddest tree what GNU tar makes of it', () =>
    withScratch(async (dir) => {
      await mkdir(join(dir, 'gnu'));
      const { entries, bytes } = await extractAll(dir, archiveOf(odd, [tree('tree', odd.length)]), 'tree', {
        destination: join(dir, 'ours'),
      });
      gnuTar(
        '-xpf',
        join(dir, 'archive.tar'),
        '-C',
        join(dir, 'gnu'),
        '--xattrs',
        '--xattrs-include=*',
        '--numeric-owner',
        '--warning=no-timestamp',
        'tree',
      );
      const ours = fingerprint(join(dir, 'ours')) as Record<
        string,
        { mode: number; mtime: string; xattrs: Record<string, string> }
      >;
      expect(ours).toEqual(fingerprint(join(dir, 'gnu/tree')));
      // GNU tar could be wrong in the same way: what was asked for.
      const of = (name: string): (typeof ours)[string] | undefined => ours[Buffer.from(name, 'latin1').toString('hex')];
      expect(of('setuid')).toMatchObject({ mode: 0o4711, uid: 65534 });
      expect(of('mtime-before-1970')?.mtime).toBe('-1500000001');
      expect(of('mtime-far')?.mtime).toBe('10000000000000000007');
      expect(of('.')).toMatchObject({ mode: 0o1777, uid: 12, gid: 34, mtime: '123000000001' });
      expect(of('huge')).toMatchObject({ size: String(9 * 1024 ** 3 + 5) });
      expect(Object.keys(of('attributes')?.xattrs ?? {})).toHaveLength(3);
      expect(of(bytesName.toString('latin1', 5))).toMatchObject({ mode: 0o6755, gid: 4294967294 });
      expect(statSync(join(dir, 'ours/huge')).blocks * 512).toBeLessThan(64 * 1024);
      expect(entries).toBe(odd.length);
      expect(bytes).toBe(4 + 5 + 1 + 4096 + 5 + 1);
    }));

  it('extracts a tree that is a tar within the archive', () =>
    withScratch(async (dir) => {
      const inner = odd.map((member): FixtureMember => {
        const cut = (name: string | Buffer): Buffer =>
          name.toString() === 'tree' ? Buffer.from('.') : Buffer.from(name).subarray(5);
        return {
          ...member,
          name: cut(member.name),
          ...(member.type === 'hardlink' ? { linkname: cut(member.linkname ?? '') } : {}),
        };
      });
      const bytes = archiveOf(
        [{ name: 'rootfs.tar', stored: tarOf(inner) }],
        [tree('rootfs.tar', odd.length, 'nested')],
      );
      await extractAll(dir, bytes, 'rootfs.tar', { destination: join(dir, 'nested') });
      await extractAll(dir, archiveOf(odd, [tree('tree', odd.length)]), 'tree', { destination: join(dir, 'plain') });
      expect(fingerprint(join(dir, 'nested'))).toEqual(fingerprint(join(dir, 'plain')));
    }));

  it('extracts a tree that is a single file, and never over another', () =>
    withScratch(async (dir) => {
      const bytes = archiveOf([{ name: 'config', stored: 'text', mode: 0o640, uid: 3 }], [tree('config', 1)]);
      const destination = join(dir, 'new-name');
      const { remove } = await extractAll(dir, bytes, 'config', { destination });
      expect(readFileSync(destination, 'utf8')).toBe('text');
      expect(lstatSync(destination)).toMatchObject({ mode: 0o100640, uid: 3 });
      await expect(extractAll(dir, bytes, 'config', { destination })).rejects.toMatchObject({
        code: 'DESTINATION_EXISTS',
      });
      expect(readFileSync(destination, 'utf8')).toBe('text');
      await remove();
      expect(existsSync(destination)).toBe(false);
      await symlink('/etc/passwd', destination);
      await expect(extractAll(dir, bytes, 'config', { destination })).rejects.toMatchObject({
        code: 'DESTINATION_EXISTS',
      });
    }));

  it('refuses a destination that is no empty directory, and touches nothing', () =>
    withScratch(async (dir) => {
      const bytes = archiveOf(odd, [tree('tree', odd.length)]);
      await mkdir(join(dir, 'full'));
      await writeFile(join(dir, 'full/mine'), 'mine');
      await expect(extractAll(dir, bytes, 'tree', { destination: join(dir, 'full') })).rejects.toMatchObject({
        code: 'DESTINATION_NOT_EMPTY',
      });
      await expect(extractAll(dir, bytes, 'tree', { destination: join(dir, 'full/mine') })).rejects.toMatchObject({
        code: 'DESTINATION_EXISTS',
      });
      await expect(extractAll(dir, bytes, 'tree', { destination: join(dir, 'no/such') })).rejects.toMatchObject({
        code: 'DESTINATION_MISSING',
      });
      await expect(extractAll(dir, bytes, 'other', { destination: join(dir, 'new') })).rejects.toMatchObject({
        code: 'MEMBER_MISSING',
      });
      expect(await readdir(join(dir, 'full'))).toEqual(['mine']);
      expect((await readdir(dir)).sort()).toEqual(['archive.tar', 'full']);
    }));

  it('takes everything back when the disk is full, and says which member did not fit', () =>
    withScratch(async (dir) => {
      const files = Array.from({ length: 200 }, (_, i): FixtureMember => ({
        name: `tree/d/${i}`,
        stored: Buffer.alloc(20_000, i),
      }));
      const bytes = archiveOf(
        [{ name: 'tree', type: 'directory' }, { name: 'tree/d', type: 'directory' }, ...files],
        [tree('tree', 202)],
      );
      const mount = join(dir, 'small');
      await mkdir(mount);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', mount]);
      try {
        const failure = expect.objectContaining({
          code: 'DESTINATION_FULL',
          facts: expect.objectContaining({ member: expect.stringMatching(/^tree\/d\//) as string }) as object,
        }) as Error;
        await expect(extractAll(dir, bytes, 'tree', { destination: join(mount, 'new') })).rejects.toEqual(failure);
        expect(await readdir(mount)).toEqual([]);
        await expect(extractAll(dir, bytes, 'tree', { destination: mount })).rejects.toEqual(failure);
        expect(await readdir(mount)).toEqual([]);
        await expect(extractAll(dir, bytes, 'tree', { destination: mount, keepPartial: true })).rejects.toEqual(
          failure,
        );
        expect(await readdir(mount)).toEqual(['d']);
      } finally {
        unmount(mount);
      }
    }));

  it('says which attribute a file system cannot hold, rather than losing it', () =>
    withScratch(async (dir) => {
      const bytes = archiveOf(
        [
          { name: 'tree', type: 'directory' },
          { name: 'tree/f', xattrs: [{ name: Buffer.from('no-such-namespace.x'), value: Buffer.from('1') }] },
        ],
        [tree('tree', 2)],
      );
      await expect(extractAll(dir, bytes, 'tree', { destination: join(dir, 'new') })).rejects.toMatchObject({
        code: 'EXTRACT_FAILED',
        facts: { member: 'tree/f' },
        cause: { code: 'ENOTSUP' },
      });
      expect(existsSync(join(dir, 'new'))).toBe(false);
    }));

  it('stops at its signal with nothing left, and lets others run meanwhile', () =>
    withScratch(async (dir) => {
      const files = Array.from({ length: 4_000 }, (_, i): FixtureMember => ({
        name: `tree/${i % 40}/${i}`,
        stored: 'some text',
      }));
      const bytes = archiveOf([{ name: 'tree', type: 'directory' }, ...files], [tree('tree', 4_001)]);
      await using archive = await openArchive(await writeArchive(dir, bytes));
      const verified = await verifyArchive(archive);
      const controller = new AbortController();
      const stopped = extractTree({
        verified,
        tree: 'tree',
        destination: join(dir, 'stopped'),
        signal: controller.signal,
        onProgress: ({ entries }) => entries > 1000 && controller.abort(),
      });
      await expect(stopped).rejects.toMatchObject({ name: 'AbortError' });
      expect(existsSync(join(dir, 'stopped'))).toBe(false);

      let turns = 0;
      const timer = setInterval(() => turns++, 1);
      const { entries, remove } = await extractTree({ verified, tree: 'tree', destination: join(dir, 'whole') });
      clearInterval(timer);
      expect(entries).toBe(4_001);
      expect(turns).toBeGreaterThan(10);
      expect(
        execFileSync('find', [join(dir, 'whole'), '-type', 'f', '-size', '-10c'])
          .toString()
          .trim()
          .split('\n'),
      ).toHaveLength(4_000);
      await remove();
      expect(existsSync(join(dir, 'whole'))).toBe(false);
    }));

  it('removes on request all that was put into the tree since, and follows no link of it', () =>
    withScratch(async (dir) => {
      await mkdir(join(dir, 'there'));
      const { remove } = await extractAll(dir, archiveOf(odd, [tree('tree', odd.length)]), 'tree', {
        destination: join(dir, 'there'),
      });
      await mkdir(join(dir, 'outside'));
      await writeFile(join(dir, 'outside/mine'), 'mine');
      await symlink(join(dir, 'outside'), join(dir, 'there/later'));
      await remove();
      expect(await readdir(join(dir, 'there'))).toEqual([]);
      expect(await readdir(join(dir, 'outside'))).toEqual(['mine']);
    }));

  it('refuses device nodes when it is told to', () =>
    withScratch(async (dir) => {
      await expect(
        extractAll(dir, archiveOf(odd, [tree('tree', odd.length)]), 'tree', {
          destination: join(dir, 'new'),
          devices: 'refuse',
        }),
      ).rejects.toMatchObject({ code: 'UNSAFE_PATH' });
      expect(existsSync(join(dir, 'new'))).toBe(false);
    }));
});

describe('extractMembers', () => {
  it('extracts a directory that is not a tree', () =>
    withScratch(async (dir) => {
      const bytes = archiveOf(
        [
          { name: 'a' },
          { name: 'checkpoint', type: 'directory', mode: 0o700 },
          { name: 'checkpoint/x.img', stored: 'x' },
          { name: 'checkpoint/y.img', stored: 'y' },
          { name: 'checkpoint.log' },
        ],
        [],
      );
      await using archive = await openArchive(await writeArchive(dir, bytes));
      await extractMembers({
        verified: await verifyArchive(archive),
        prefix: 'checkpoint',
        destination: join(dir, 'images'),
      });
      expect(await readdir(join(dir, 'images'))).toEqual(['x.img', 'y.img']);
      expect(readFileSync(join(dir, 'images/y.img'), 'utf8')).toBe('y');
    }));
});

describe('a hostile archive writes nothing outside its destination:', () => {
  const outside = 'outside/victim';
  const d: FixtureMember = { name: 'd', type: 'directory' };
  const cases: [string, string, FixtureMember[]][] = [
    ['a name that leads upwards', 'UNSAFE_PATH', [d, { name: '../outside/victim', stored: 'x' }]],
    ['a name that leads upwards further on', 'UNSAFE_PATH', [d, { name: 'd/../../outside/victim', stored: 'x' }]],
    ['an absolute name', 'UNSAFE_PATH', [{ name: '/outside/victim', stored: 'x' }]],
    ['an empty name', 'UNSAFE_PATH', [{ name: '', stored: 'x' }]],
    ['an empty component', 'UNSAFE_PATH', [{ name: 'd//x', stored: 'x' }]],
    ['a name that is two dots', 'UNSAFE_PATH', [{ name: '..', type: 'directory' }]],
    [
      'a file through a symbolic link',
      'UNSAFE_PATH',
      [
        { name: 'l', type: 'symlink', linkname: '../outside' },
        { name: 'l/victim', stored: 'x' },
      ],
    ],
    [
      'a directory in the place of a symbolic link',
      'UNSAFE_PATH',
      [
        { name: 'l', type: 'symlink', linkname: '../outside' },
        { name: 'l', type: 'directory' },
        { name: 'l/victim', stored: 'x' },
      ],
    ],
    [
      'a file in the place of a symbolic link',
      'UNSAFE_PATH',
      [
        { name: 'l', type: 'symlink', linkname: '../outside/victim' },
        { name: 'l', stored: 'x' },
      ],
    ],
    [
      'a symbolic link in the place of a directory',
      'UNSAFE_PATH',
      [d, { name: 'd', type: 'symlink', linkname: '../outside' }, { name: 'd/victim', stored: 'x' }],
    ],
    ['a hard link to a file outside', 'UNSAFE_LINK', [{ name: 'h', type: 'hardlink', linkname: '../outside/victim' }]],
    ['a hard link to an absolute path', 'UNSAFE_LINK', [{ name: 'h', type: 'hardlink', linkname: '/etc/passwd' }]],
    [
      'a hard link through a symbolic link',
      'UNSAFE_LINK',
      [
        { name: 'l', type: 'symlink', linkname: '../outside' },
        { name: 'h', type: 'hardlink', linkname: 'l/victim' },
      ],
    ],
    [
      'a file over a hard link to a symbolic link',
      'UNSAFE_PATH',
      [
        { name: 'l', type: 'symlink', linkname: '../outside/victim' },
        { name: 'h', type: 'hardlink', linkname: 'l' },
        { name: 'h', stored: 'x' },
      ],
    ],
    ['an owner that chown would ignore', 'ARCHIVE_DAMAGED', [{ name: 'x', uid: 0xffffffff }]],
    [
      'a root that is a symbolic link',
      'UNSAFE_PATH',
      [
        { name: '.', type: 'symlink', linkname: '../outside' },
        { name: 'victim', stored: 'x' },
      ],
    ],
  ];
  it.each(cases)('%s', (_, code, members) =>
    withScratch(async (dir) => {
      await mkdir(join(dir, 'outside'));
      await writeFile(join(dir, outside), 'untouched');
      const path = await writeArchive(
        dir,
        tarOf(members, members.some(({ uid }) => uid !== undefined) ? undefined : hostileHeader),
      );
      const before = fingerprint(join(dir, 'outside'));
      await expect(extractForeign(path, { destination: join(dir, 'new') })).rejects.toMatchObject({
        name: 'ArchiveError',
        code,
      });
      expect(fingerprint(join(dir, 'outside'))).toEqual(before);
      expect((await readdir(dir)).sort()).toEqual(['archive.tar', 'outside']);
      expect(existsSync('/outside')).toBe(false);
    }),
  );

  it('a directory that someone swaps for a symbolic link while it is extracted', () =>
    withScratch(async (dir) => {
      const files = Array.from({ length: 400 }, (_, i): FixtureMember => ({ name: `d${i}/f`, stored: 'x' }));
      const path = await writeArchive(
        dir,
        tarOf([
          { name: '.', type: 'directory' },
          ...Array.from({ length: 400 }, (_, i): FixtureMember => ({ name: `d${i}`, type: 'directory' })),
          ...files,
        ]),
      );
      await mkdir(join(dir, 'outside'));
      // The directories are there once the first files are done: the last of them is swapped then.
      let swapped = false;
      const onProgress = (): void => {
        if (swapped) return;
        swapped = true;
        execFileSync('sh', ['-c', 'rmdir "$1/new/d399" && ln -s ../outside "$1/new/d399"', 'sh', dir]);
      };
      await expect(extractForeign(path, { destination: join(dir, 'new'), onProgress })).rejects.toMatchObject({
        code: 'EXTRACT_FAILED',
      });
      expect(swapped).toBe(true);
      expect(await readdir(join(dir, 'outside'))).toEqual([]);
    }));
});

describe("GNU tar's archives", () => {
  it.each([
    ['pax', ['--format=pax', '--xattrs', '--xattrs-include=*', '--sparse']],
    ['pax, gzip', ['--format=pax', '--xattrs', '--xattrs-include=*', '--sparse', '-z']],
    ['gnu', ['--format=gnu']],
  ])('of the format %s come out as the tree they were made of', (format, options) =>
    withScratch(async (dir) => {
      const members =
        format === 'gnu'
          ? odd.filter(
              ({ name, xattrs, mtimeNs }) =>
                xattrs === undefined && !['tree/huge', 'tree/hole'].includes(name.toString()) && mtimeNs === undefined,
            )
          : odd;
      const whole = members.map((member) => (format === 'gnu' ? { ...member, mtimeNs: 77n * SECOND } : member));
      if (format === 'gnu') whole.unshift({ name: 'tree', type: 'directory', mtimeNs: -5n * SECOND });
      await extractAll(dir, archiveOf(whole, [tree('tree', whole.length)]), 'tree', { destination: join(dir, 'tree') });
      gnuTar('--warning=no-timestamp', '-cf', join(dir, 'gnu.tar'), '-C', join(dir, 'tree'), ...options, '.');
      await extractForeign(join(dir, 'gnu.tar'), { destination: join(dir, 'again') });
      expect(fingerprint(join(dir, 'again'))).toEqual(fingerprint(join(dir, 'tree')));
    }),
  );

  it('with sparse files of an older format are refused by name, not damaged', () =>
    withScratch(async (dir) => {
      await mkdir(join(dir, 'tree'));
      execFileSync('truncate', ['-s', '1G', join(dir, 'tree/sparse')]);
      for (const options of [
        ['--format=gnu'],
        ['--format=pax', '--sparse-version=0.0'],
        ['--format=pax', '--sparse-version=0.1'],
      ]) {
        gnuTar('-cf', join(dir, 'gnu.tar'), '-C', dir, '--sparse', ...options, 'tree');
        await expect(extractForeign(join(dir, 'gnu.tar'), { destination: join(dir, 'again') })).rejects.toMatchObject({
          code: 'ARCHIVE_UNSUPPORTED',
        });
        expect(existsSync(join(dir, 'again'))).toBe(false);
      }
    }));
});
