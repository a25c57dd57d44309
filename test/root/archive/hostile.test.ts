/** Archives with right hashes that were made to hang, to mislead, or to cost more than they should. */
import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { arch } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { inspect, restore, restoreContainer, StillframeError, verify, writeImage } from '../../../src/index.js';
import { encodeHeader } from '../../../src/archive/format/tar-encode.js';
import { paxRecord } from '../../../src/archive/format/pax.js';
import {
  containerSubject,
  forge,
  forgeContainer,
  imageMembers,
  treeSubject,
  type ForgedMember,
} from '../../fixtures/forge-archive.js';
import { library } from '../../fixtures/program.js';
import { claimingHeader, toEntry, withScratch, writeArchive } from './archive-fixture.js';

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'none',
    (error: unknown) => (error instanceof StillframeError ? error.code : `untyped ${String(error)}`),
  );

describe("among CRIU's images", () => {
  const odd: [string, ForgedMember[]][] = [
    ['a FIFO', [{ name: 'checkpoint/pstree.img', type: 'fifo' }]],
    ['a character device', [{ name: 'checkpoint/pstree.img', type: 'character-device', devmajor: 1, devminor: 5 }]],
    ['a block device', [{ name: 'checkpoint/pstree.img', type: 'block-device', devmajor: 1, devminor: 5 }]],
    ['a symbolic link', [{ name: 'checkpoint/pstree.img', type: 'symlink', linkname: '/dev/zero' }]],
    ['a hard link', [{ name: 'checkpoint/pstree.img', type: 'hardlink', linkname: 'checkpoint/inventory.img' }]],
    [
      'a FIFO further down',
      [
        { name: 'checkpoint/a', type: 'directory' },
        { name: 'checkpoint/a/x.img', type: 'fifo' },
      ],
    ],
    ['parent images outside', [{ name: 'checkpoint/parent', type: 'symlink', linkname: '../other' }]],
    ['parent images at an absolute path', [{ name: 'checkpoint/parent', type: 'symlink', linkname: '/etc' }]],
    ['parent images that are their own', [{ name: 'checkpoint/parent', type: 'symlink', linkname: '.' }]],
    [
      'parent images in a circle',
      [
        { name: 'checkpoint/a', type: 'directory' },
        { name: 'checkpoint/b', type: 'directory' },
        { name: 'checkpoint/a/parent', type: 'symlink', linkname: '../b' },
        { name: 'checkpoint/b/parent', type: 'symlink', linkname: '../a' },
      ],
    ],
  ];

  it.each(odd)('%s is refused by the restore, before anything is extracted', (_, members) =>
    withScratch(async (dir) => {
      const archive = await writeArchive(
        dir,
        forge({ members: [...imageMembers, ...members], subject: treeSubject() }),
      );
      expect(await codeOf(restore({ archive, workDir: dir }))).toBe('UNSAFE_MEMBER');
      expect(readdirSync(dir)).toEqual(['archive.tar']);
    }),
  );

  it.each(odd)('%s is refused by the restore into a runtime and by the image', (_, members) =>
    withScratch(async (dir) => {
      const forged = { members: [...imageMembers, ...members], subject: containerSubject() };
      const archive = await writeArchive(dir, forge(forged));
      mkdirSync(join(dir, 'bundle'));
      for (const target of [{ runc: 'forged', bundle: join(dir, 'bundle') }, { podman: 'forged' }])
        expect(await codeOf(restoreContainer({ archive, workDir: dir, ...target }))).toBe('UNSAFE_MEMBER');
      expect(await codeOf(writeImage({ archive, directory: join(dir, 'image') }))).toBe('UNSAFE_MEMBER');
      expect(readdirSync(dir)).toEqual(['archive.tar', 'bundle']);
    }),
  );

  it('links to the images of earlier rounds are as CRIU makes them', () =>
    withScratch(async (dir) => {
      const rounds: ForgedMember[] = [
        { name: 'checkpoint/parent', type: 'symlink', linkname: 'b' },
        { name: 'checkpoint/a', type: 'directory' },
        { name: 'checkpoint/b', type: 'directory' },
        { name: 'checkpoint/b/parent', type: 'symlink', linkname: '../a' },
      ];
      const archive = await writeArchive(dir, forge({ members: [...imageMembers, ...rounds], subject: treeSubject() }));
      expect(await codeOf(restore({ archive, workDir: dir }))).toBe('IMAGES_FAILED'); // there are no processes in it
    }));
});

describe('a manifest in which is', () => {
  const subjects: [string, Record<string, unknown>][] = [
    ['no cgroup', { cgroup: null }],
    ['a process that is none', { cgroup: { version: 1, name: '/', members: [null] } }],
    ['a cgroup that is an object', { cgroup: { version: 1, name: '/', members: [{ pid: 1, cgroup: {} }] } }],
    ['no kernel', { kernel: null }],
    ['a machine that is an object', { kernel: { release: '6', arch: { toString: 1 } } }],
    ['a kind that is an object', { kind: { toString: 1 } }],
    ['a time that is an object', { createdAt: { toString: 1, valueOf: 1 } }],
    ['no CRIU', { criu: undefined }],
    ['no options', { criuOptions: null }],
    ['a list for options', { criuOptions: [] }],
  ];

  it.each([...subjects, ['an option of another type', { criuOptions: { shellJob: {} } }] as const])(
    '%s is no checkpoint of a tree',
    (_, changes) =>
      withScratch(async (dir) => {
        const archive = await writeArchive(dir, forge({ members: [...imageMembers], subject: treeSubject(changes) }));
        expect(await codeOf(restore({ archive, workDir: dir }))).toBe('NOT_A_CHECKPOINT');
      }),
  );

  it.each([
    ...subjects.filter(([name]) => !/process|cgroup that/.test(name)),
    ['no container', { container: null }] as const,
    ['a container without a name', { container: { runtime: 'runc', ociRuntime: 'runc', id: 'x' } }] as const,
    [
      'an image that is none',
      { container: { runtime: 'runc', ociRuntime: 'runc', id: 'x', name: 'x', image: 3 } },
    ] as const,
  ])('%s is no checkpoint of a container', (_, changes) =>
    withScratch(async (dir) => {
      const members = [...imageMembers, { name: 'spec.dump', stored: '{}' }];
      const archive = await writeArchive(dir, forge({ members, subject: containerSubject(changes) }));
      mkdirSync(join(dir, 'bundle'));
      const expected = 'NOT_A_CONTAINER_CHECKPOINT';
      expect(await codeOf(writeImage({ archive, directory: join(dir, 'image') }))).toBe(expected);
      expect(await codeOf(restoreContainer({ archive, runc: 'forged', bundle: join(dir, 'bundle') }))).toBe(expected);
    }),
  );

  it.each([['nope'], ['null'], ['[]'], ['{"annotations":null}'], ['{"annotations":{"a":1}}'], ['{"a":'.repeat(5000)]])(
    'a configuration %s is no image',
    (spec) =>
      withScratch(async (dir) => {
        const archive = await writeArchive(dir, forgeContainer({ spec }));
        const image = writeImage({ archive, directory: join(dir, 'image') });
        expect(await codeOf(image)).toBe('NOT_A_CONTAINER_CHECKPOINT');
      }),
  );

  it('an object within thousands is damaged', () =>
    withScratch(async (dir) => {
      let deep: unknown = arch();
      for (let i = 0; i < 1000; i++) deep = { deep };
      const archive = await writeArchive(dir, forge({ members: [...imageMembers], subject: treeSubject({ deep }) }));
      for (const read of [inspect, verify]) expect(await codeOf(read(archive))).toBe('ARCHIVE_DAMAGED');
    }));
});

describe('costs no more than 200 MiB and 5 s:', () => {
  const run = promisify(execFile);

  /** In a process of its own, whose peak is that of this archive. */
  async function cost(archive: string, call: string): Promise<{ code: string; peakMiB: number; ms: number }> {
    const program = `
      import { readFileSync } from 'node:fs';
      const library = await import(${JSON.stringify(pathToFileURL(library).href)});
      const begin = performance.now();
      let code = 'none';
      try { await library.${call}(${JSON.stringify(archive)}); } catch (error) { code = error instanceof library.StillframeError ? error.code : String(error?.stack); }
      const ms = performance.now() - begin;
      console.log(JSON.stringify({ code, ms, peakMiB: /VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1] / 1024 }));`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', program]);
    return JSON.parse(stdout) as { code: string; peakMiB: number; ms: number };
  }

  const MIB = 2 ** 20;
  const extended = (flag: string, body: string): Buffer =>
    Buffer.concat([
      claimingHeader(flag, body.length),
      Buffer.from(body, 'latin1'),
      Buffer.alloc((512 - (body.length % 512)) % 512),
    ]);
  const file = (name: string): Buffer => encodeHeader(toEntry({ name, mtimeNs: 0n }));
  const end = Buffer.alloc(1024);
  const many = (count: number, make: (i: number) => Buffer): Buffer =>
    Buffer.concat(Array.from({ length: count }, (_, i) => make(i)));

  it.each<[string, () => Buffer]>([
    [
      'a global attribute of 8 MiB',
      () =>
        Buffer.concat([
          extended('g', paxRecord('SCHILY.xattr.user.a', 'x'.repeat(7.9 * MIB))),
          many(1000, (i) => file(`f${i}`)),
          end,
        ]),
    ],
    [
      'a global attribute of almost 1 MiB, for 5000 members',
      () =>
        Buffer.concat([
          extended('g', paxRecord('SCHILY.xattr.user.a', 'x'.repeat(0.9 * MIB))),
          many(5000, (i) => file(`f${i}`)),
          end,
        ]),
    ],
    [
      'a global attribute for members with their own',
      () =>
        Buffer.concat([
          extended('g', paxRecord('SCHILY.xattr.user.a', 'x'.repeat(0.9 * MIB))),
          many(2000, (i) => Buffer.concat([extended('x', paxRecord('SCHILY.xattr.user.b', 'y')), file(`f${i}`)])),
          end,
        ]),
    ],
    [
      'global headers without a member',
      () => Buffer.concat([many(60, () => extended('g', paxRecord('comment', 'x'.repeat(0.9 * MIB)))), end]),
    ],
    [
      'global headers between members',
      () =>
        Buffer.concat([
          many(60, (i) => Buffer.concat([extended('g', paxRecord(`k${i}`, 'x'.repeat(0.9 * MIB))), file(`f${i}`)])),
          end,
        ]),
    ],
    [
      'pax headers that set nothing',
      () =>
        Buffer.concat([many(60, () => extended('x', paxRecord('path', '').repeat((0.9 * MIB) / 8))), file('f'), end]),
    ],
    [
      'a name with a million slashes',
      () => Buffer.concat([extended('x', paxRecord('path', `${'a/'.repeat(0.4 * MIB)}b`)), file('f'), end]),
    ],
    [
      'names of 64 KiB that share no directory',
      () =>
        Buffer.concat([
          many(150, (i) =>
            Buffer.concat([extended('x', paxRecord('path', `${i}/${'a/'.repeat(32_000)}b`)), file('f')]),
          ),
          end,
        ]),
    ],
    ['20,000 members', () => Buffer.concat([many(20_000, (i) => file(`f${i}`)), end])],
    [
      'a sparse file of a million empty ranges',
      () => {
        const map = `1000000\n${'0\n0\n'.repeat(1_000_000)}`;
        const records =
          paxRecord('GNU.sparse.major', '1') +
          paxRecord('GNU.sparse.minor', '0') +
          paxRecord('GNU.sparse.name', 'f') +
          paxRecord('GNU.sparse.realsize', '1');
        return Buffer.concat([
          extended('x', records),
          claimingHeader('0', Math.ceil(map.length / 512) * 512),
          Buffer.from(map),
          Buffer.alloc((512 - (map.length % 512)) % 512),
          end,
        ]);
      },
    ],
    [
      'a manifest of nothing but lists',
      () => forge({ members: [...imageMembers], subject: { list: Array.from({ length: 1_200_000 }, () => []) } }),
    ],
  ])(
    '%s',
    (_, make) =>
      withScratch(async (dir) => {
        const archive = await writeArchive(dir, gzipSync(make(), { level: 9 }));
        for (const call of ['inspect', 'verify']) {
          const { code, peakMiB, ms } = await cost(archive, call);
          expect(code).toMatch(/^(none|ARCHIVE_DAMAGED|ARCHIVE_UNSUPPORTED|NOT_AN_ARCHIVE|UNSAFE_PATH)$/);
          expect(peakMiB, call).toBeLessThan(200);
          expect(ms, call).toBeLessThan(5000);
        }
      }),
    60_000,
  );

  it('a list of hashes that is 6 GiB of nothing', () =>
    withScratch(async (dir) => {
      const list = encodeHeader(
        toEntry({ name: 'stillframe/members.sha256', size: 6 * 2 ** 30, mode: 0o600, mtimeNs: 0n }),
      );
      const path = await writeArchive(dir, list);
      await using file = await open(path, 'r+');
      await file.truncate(512 + 6 * 2 ** 30 + 1024);
      const { code, peakMiB, ms } = await cost(path, 'verify');
      expect(code).toBe('ARCHIVE_DAMAGED');
      expect(peakMiB).toBeLessThan(200);
      expect(ms).toBeLessThan(5000);
    }));
});
