import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import {
  extractTree,
  openArchive,
  verifyArchive,
  type Destination,
  type ExtractedTree,
} from '../../../src/archive/index.js';
import { archiveOf, tree, writeArchive, type FixtureMember } from './archive-fixture.js';
import { SERVICE, linkOf } from './users-files.js';

let scratch: string;
/** Where the archive is. */
let elsewhere: string;
/** What was said about hidden directories, and about what is replaced. */
let told: string[];

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  elsewhere = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  chmodSync(scratch, 0o755);
  told = [];
});
afterEach(() => {
  rmSync(scratch, { recursive: true, force: true });
  rmSync(elsewhere, { recursive: true, force: true });
});

const directory: FixtureMember[] = [
  { name: 'data', type: 'directory', uid: SERVICE, mode: 0o750 },
  { name: 'data/table', stored: 'new', uid: SERVICE },
];
const file: FixtureMember[] = [{ name: 'data', stored: 'new', uid: SERVICE, mode: 0o640 }];

async function extract(
  destination: Destination,
  { members = directory, old = 'keep' as 'keep' | 'remove' } = {},
): Promise<ExtractedTree> {
  await using archive = await openArchive(
    await writeArchive(elsewhere, archiveOf(members, [tree('data', members.length)])),
  );
  return await extractTree({
    verified: await verifyArchive(archive),
    tree: 'data',
    destination,
    replace: {
      old,
      watch: {
        hidden: { willMake: () => told.push('hidden'), removed: () => told.push('removed') },
        willReplace: ({ path }) => {
          told.push(`replaces ${path}`);
          return Promise.resolve();
        },
      },
    },
  });
}

/** A directory with what was there before. */
function oldData(path = join(scratch, 'data')): string {
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, 'table'), 'old');
  mkdirSync(join(path, 'sub'));
  return path;
}

const names = (): string[] => readdirSync(scratch).sort();

describe('a tree that takes the place of another', () => {
  it('hides it until it is whole, takes the place with all its own attributes, and keeps what was there', async () => {
    const path = oldData();
    const { replacement } = await extract({ recorded: path });
    expect(readFileSync(join(path, 'table'), 'utf8')).toBe('old');
    expect(names()).toEqual([expect.stringMatching(/^\.stillframe-/), 'data']);
    expect(statSync(join(scratch, names()[0]!)).mode & 0o777).toBe(0o700);

    await replacement!.takePlace();
    expect(readFileSync(join(path, 'table'), 'utf8')).toBe('new');
    expect(statSync(path)).toMatchObject({ uid: SERVICE, mode: 0o40750 });

    const { keptAs, problem } = await replacement!.settle();
    expect(problem).toBeUndefined();
    expect(keptAs).toMatch(/\/data\.replaced-\d{8}T\d{6}Z$/);
    expect(readdirSync(keptAs!).sort()).toEqual(['sub', 'table']);
    expect(readFileSync(join(keptAs!, 'table'), 'utf8')).toBe('old');
    expect(names()).toEqual(['data', keptAs!.slice(scratch.length + 1)]);
    expect(told).toEqual(['hidden', `replaces ${path}`, 'removed']);
  });

  it('removes what was there when asked', async () => {
    const path = oldData();
    const { replacement } = await extract(path, { old: 'remove' });
    await replacement!.takePlace();
    expect(await replacement!.settle()).toEqual({ path, keptAs: undefined, problem: undefined });
    expect(names()).toEqual(['data']);
  });

  it.each([
    ['before it has taken the place', false],
    ['after', true],
  ])('leaves all as it was when it is taken back %s', async (_, isInPlace) => {
    const path = oldData();
    const { ino } = statSync(path);
    const { replacement, remove } = await extract(path);
    if (isInPlace) await replacement!.takePlace();
    await remove();
    expect(statSync(path).ino).toBe(ino);
    expect(readdirSync(path).sort()).toEqual(['sub', 'table']);
    expect(names()).toEqual(['data']);
  });

  it('is put back although what had its place was removed meanwhile', async () => {
    const path = oldData();
    const { replacement, remove } = await extract(path);
    await replacement!.takePlace();
    rmSync(path, { recursive: true });
    await remove();
    expect(readFileSync(join(path, 'table'), 'utf8')).toBe('old');
    expect(names()).toEqual(['data']);
  });

  it('may be a file, in the place of a file, a directory, a link or a FIFO', async () => {
    const path = join(scratch, 'data');
    const olds: [type: string, make: () => void][] = [
      ['-', () => writeFileSync(path, 'old')],
      ['d', () => oldData(path)],
      ['l', () => symlinkSync('nowhere', path)],
      ['p', () => spawnSync('mkfifo', [path])],
    ];
    for (const [type, make] of olds) {
      make();
      const { replacement } = await extract(path, { members: file });
      await replacement!.takePlace();
      const { keptAs } = await replacement!.settle();
      expect(readFileSync(path, 'utf8')).toBe('new');
      expect(statSync(path)).toMatchObject({ uid: SERVICE, mode: 0o100640 });
      expect(spawnSync('stat', ['-c', '%A', keptAs!], { encoding: 'utf8' }).stdout[0]).toBe(type);
      rmSync(path);
    }
  });

  it('is extracted as ever where nothing is, or an empty directory', async () => {
    mkdirSync(join(scratch, 'empty'));
    for (const name of ['empty', 'missing']) {
      const { replacement } = await extract({ recorded: join(scratch, name) });
      expect(replacement).toBeUndefined();
      expect(readFileSync(join(scratch, name, 'table'), 'utf8')).toBe('new');
    }
    expect(told).toEqual([]);
  });

  it("follows the caller's link, which stays", async () => {
    oldData();
    symlinkSync('data', join(scratch, 'current'));
    const { replacement } = await extract(join(scratch, 'current'));
    await replacement!.takePlace();
    const { path, keptAs } = await replacement!.settle();
    expect(path).toBe(join(scratch, 'data'));
    expect(readlinkSync(join(scratch, 'current'))).toBe('data');
    expect(readFileSync(join(scratch, 'current/table'), 'utf8')).toBe('new');
    expect(keptAs).toContain(`${scratch}/data.replaced-`);
  });

  it('keeps each of several under a name of its own, however long the name is', async () => {
    const path = oldData(join(scratch, 'ä'.repeat(127)));
    for (let i = 0; i < 3; i++) {
      const { replacement } = await extract(path);
      await replacement!.takePlace();
      await replacement!.settle();
    }
    expect(names().length).toBe(4);
    for (const name of names()) expect(Buffer.byteLength(name)).toBeLessThanOrEqual(255);
  });

  it('says what it could not remove, and keeps that', async () => {
    const path = oldData();
    spawnSync('chattr', ['+i', join(path, 'table')]);
    const { replacement } = await extract(path, { old: 'remove' });
    await replacement!.takePlace();
    const { keptAs, problem } = await replacement!.settle();
    spawnSync('chattr', ['-R', '-i', keptAs!]);
    expect(problem).toMatch(/EPERM|not permitted/);
    expect(names()).toEqual(['data', keptAs!.slice(scratch.length + 1)]);
    expect(readFileSync(join(path, 'table'), 'utf8')).toBe('new');
  });

  it('does not touch what somebody has put there since it was looked at', async () => {
    const path = oldData();
    const { replacement, remove } = await extract(path);
    renameSync(path, join(scratch, 'away'));
    oldData();
    await expect(replacement!.takePlace()).rejects.toMatchObject({ code: 'EXTRACT_FAILED', facts: { path } });
    await remove();
    expect(names()).toEqual(['away', 'data']);
    expect(readFileSync(join(path, 'table'), 'utf8')).toBe('old');
  });
});

describe('what is not replaced', () => {
  it.each([
    ['a mount point', 'data'],
    ['a directory with a mount point in it', 'data/sub'],
  ])('%s, which is named', async (_, mounted) => {
    const path = oldData();
    const point = join(scratch, mounted);
    expect(spawnSync('mount', ['-t', 'tmpfs', 'none', point]).status).toBe(0);
    onTestFinished(() => void spawnSync('umount', [point]));
    writeFileSync(join(point, 'of-the-mount'), '');
    await expect(extract({ recorded: path })).rejects.toMatchObject({
      code: 'DESTINATION_MOUNTED',
      message: expect.stringContaining('is a mount point') as string,
    });
    expect(existsSync(join(point, 'of-the-mount'))).toBe(true);
    expect(names()).toEqual(['data']);
    spawnSync('umount', [point]);
    await expect(extract('/')).rejects.toMatchObject({ code: 'DESTINATION_MOUNTED' });
  });

  const unsafe: [what: string, make: () => string][] = [
    [
      "a link of root's at the end",
      () => {
        symlinkSync(oldData(), join(scratch, 'link'));
        return join(scratch, 'link');
      },
    ],
    [
      'a link of the user on the way',
      () => {
        oldData();
        linkOf(SERVICE, '.', join(scratch, 'way'));
        return join(scratch, 'way/data');
      },
    ],
    [
      "a stranger's directory",
      () => {
        chownSync(oldData(), 65533, 65533);
        return join(scratch, 'data');
      },
    ],
    [
      "root's directory in one of the user's",
      () => {
        chownSync(scratch, SERVICE, SERVICE);
        return oldData();
      },
    ],
    [
      'a directory where others can rename what is there',
      () => {
        chmodSync(scratch, 0o777);
        return oldData();
      },
    ],
  ];

  it.each(unsafe)('%s, at a place that the archive recorded', async (_, make) => {
    const recorded = make();
    const before = names();
    await expect(extract({ recorded })).rejects.toMatchObject({ code: 'DESTINATION_UNSAFE' });
    expect(names()).toEqual(before);
    expect(readFileSync(join(scratch, 'data/table'), 'utf8')).toBe('old');
  });
});
