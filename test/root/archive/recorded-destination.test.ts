import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  extractTree,
  openArchive,
  verifyArchive,
  type Destination,
  type ExtractedTree,
} from '../../../src/archive/index.js';
import { archiveOf, tree, writeArchive, type FixtureMember } from './archive-fixture.js';
import { SERVICE, directoryOf, linkOf } from './users-files.js';

/** Neither root nor the service's user, who owns the tree and the directory that it was in. */
const STRANGER = 65533;

let scratch: string;
/** Of root's, empty, as /usr/local/sbin is. */
let sbin: string;
/** The service's own. */
let app: string;

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  chmodSync(scratch, 0o755);
  sbin = directory('sbin', 0);
  app = directory('app', SERVICE);
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

const directory = (name: string, uid: number, mode?: number): string => directoryOf(uid, join(scratch, name), mode);

const data: FixtureMember[] = [
  { name: 'data', type: 'directory', uid: SERVICE, mode: 0o770 },
  { name: 'data/ls', stored: '#!/bin/sh', uid: SERVICE, mode: 0o4755 },
];

async function extract(destination: Destination, members = data): Promise<ExtractedTree> {
  await using archive = await openArchive(
    await writeArchive(scratch, archiveOf(members, [tree('data', members.length)])),
  );
  return await extractTree({ verified: await verifyArchive(archive), tree: 'data', destination });
}

function untouched(): void {
  expect(readdirSync(sbin)).toEqual([]);
  expect(statSync(sbin)).toMatchObject({ uid: 0, mode: 0o40755 });
}

describe('a destination that the archive recorded', () => {
  it("is used in root's directories and in those of the user who owns the tree, made or found empty", async () => {
    for (const path of [join(app, 'made'), directory('app/found', SERVICE), join(scratch, 'of-root')]) {
      await extract({ recorded: path });
      expect(readFileSync(join(path, 'ls'), 'utf8')).toBe('#!/bin/sh');
      expect(statSync(path)).toMatchObject({ uid: SERVICE, mode: 0o40770 });
      expect(statSync(join(path, 'ls'))).toMatchObject({ uid: SERVICE, mode: 0o104755 });
    }
  });

  it("follows root's own links on the way, absolute and relative ones", async () => {
    symlinkSync(app, join(scratch, 'srv'));
    symlinkSync('./srv/', join(scratch, 'current'));
    await extract({ recorded: join(scratch, 'current/data') });
    expect(readdirSync(join(app, 'data'))).toEqual(['ls']);
  });

  const refused: [what: string, make: () => string][] = [
    ['ends in a link of the user', () => (link(sbin, 'app/data', SERVICE), join(app, 'data'))],
    ["ends in a link of root's", () => (link(sbin, 'data', 0), join(scratch, 'data'))],
    ['ends in a link to nowhere', () => (link(join(sbin, 'new'), 'app/data', SERVICE), join(app, 'data'))],
    ['leads through a link of the user', () => (link(scratch, 'app/up', SERVICE), join(app, 'up/sbin'))],
    [
      "leads through a link of root's in the user's directory",
      () => (link(scratch, 'app/up', 0), join(app, 'up/sbin')),
    ],
    [
      "leads through a user's link in a directory that all may write to",
      () => {
        directory('tmp', 0, 0o1777);
        link(scratch, 'tmp/up', STRANGER);
        return join(scratch, 'tmp/up/sbin');
      },
    ],
    [
      "leads from the user's directory into one of root's",
      () => (directory('app/of-root', 0), join(app, 'of-root/data')),
    ],
    ["is one of root's in the user's directory", () => directory('app/of-root', 0)],
    ["is one of a stranger's in the user's directory", () => directory('app/strange', STRANGER)],
    ["is in a stranger's directory", () => join(directory('strange', STRANGER), 'data')],
    ["is a stranger's directory", () => directory('strange', STRANGER)],
    ['is where others can rename what is there', () => join(directory('open', 0, 0o777), 'data')],
  ];

  function link(target: string, name: string, uid: number): void {
    linkOf(uid, target, join(scratch, name));
  }

  it.each(refused)('is refused when it %s', async (_, make) => {
    const path = make();
    const before = existsSync(path) ? statSync(path) : undefined;
    await expect(extract({ recorded: path })).rejects.toMatchObject({
      name: 'ArchiveError',
      code: 'DESTINATION_UNSAFE',
      remedy: expect.stringContaining('--files') as string,
    });
    untouched();
    if (before === undefined) expect(existsSync(path)).toBe(false);
    else expect(statSync(path)).toMatchObject({ uid: before.uid, mode: before.mode });
  });

  it('is refused in the same way for a tree that is a single file', async () => {
    link(sbin, 'app/way', SERVICE);
    const file: FixtureMember[] = [{ name: 'data', stored: 'text', uid: SERVICE }];
    await expect(extract({ recorded: join(app, 'way/data') }, file)).rejects.toMatchObject({
      code: 'DESTINATION_UNSAFE',
    });
    await extract({ recorded: join(app, 'data') }, file);
    expect(readFileSync(join(app, 'data'), 'utf8')).toBe('text');
    untouched();
  });

  it("is refused for root's tree in a user's directory", async () => {
    const members = data.map((member) => ({ ...member, uid: 0 }));
    await expect(extract({ recorded: join(app, 'data') }, members)).rejects.toMatchObject({
      code: 'DESTINATION_UNSAFE',
    });
    expect(readdirSync(app)).toEqual([]);
  });
});

describe('a destination that the caller gives', () => {
  it('may be a link, whoever owns it', async () => {
    linkOf(SERVICE, sbin, join(app, 'data'));
    await extract(join(app, 'data'));
    expect(readdirSync(sbin)).toEqual(['ls']);
  });

  it('is as it was when it is not empty, or when the extraction is taken back', async () => {
    const path = directory('found', SERVICE, 0o2775);
    const { remove } = await extract(path);
    expect(statSync(path).mode).toBe(0o40770);
    await remove();
    expect(readdirSync(path)).toEqual([]);
    expect(statSync(path)).toMatchObject({ uid: SERVICE, mode: 0o42775 });
    writeFileSync(join(path, 'file'), '');
    await expect(extract(path)).rejects.toMatchObject({ code: 'DESTINATION_NOT_EMPTY' });
    expect(statSync(path)).toMatchObject({ uid: SERVICE, mode: 0o42775 });
  });
});
