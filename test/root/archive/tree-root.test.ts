/** Nobody other than root chooses, by a symbolic link, which tree is archived. */
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ArchiveWriter, openArchive, Stage, walkMembers } from '../../../src/archive/index.js';
import { SERVICE, directoryOf, linkOf } from './users-files.js';

let scratch: string;
/** What the service's user may not read. */
let secret: string;
/** The service's own. */
let app: string;

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  chmodSync(scratch, 0o755);
  secret = directory('secret', 0, 0o700);
  writeFileSync(join(secret, 'key'), 'of root');
  app = directory('app', SERVICE);
  directory('app/data', SERVICE);
  writeFileSync(join(app, 'data/own'), 'of the service');
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

const directory = (name: string, uid: number, mode?: number): string => directoryOf(uid, join(scratch, name), mode);

const link = (target: string, name: string, uid: number): string => linkOf(uid, target, join(scratch, name));

const OUTPUT = 'out.tar';

/** The names of the files that were archived. */
async function archive(path: string, { beforeWindow = (): void => undefined, precopy = true } = {}): Promise<string[]> {
  const directory = join(scratch, 'archives');
  mkdirSync(directory, { recursive: true });
  await using writer = await ArchiveWriter.create({ outputPath: join(directory, OUTPUT) });
  const stage = new Stage(writer, [{ path, name: 'data' }]);
  if (precopy) await stage.precopy({ mapped: () => new Set() });
  beforeWindow();
  await stage.refresh({ mapped: new Set(), writable: () => new Set() });
  await writer.seal({ subject: {} });
  await using open = await openArchive(join(directory, OUTPUT));
  const names: string[] = [];
  for await (const { entry } of walkMembers(open)) names.push(String(entry.name));
  return names.filter((name) => name.startsWith('data'));
}

async function refused(path: string, options: Parameters<typeof archive>[1] = {}): Promise<void> {
  await expect(archive(path, options)).rejects.toMatchObject({
    name: 'ArchiveError',
    code: 'TREE_UNSAFE',
    facts: { path },
    remedy: expect.stringContaining('without that link') as string,
  });
  expect(readdirSync(join(scratch, 'archives'))).toEqual([]);
}

describe("a tree's path", () => {
  it('may lead through directories of other users, into one of theirs', async () => {
    expect(await archive(join(app, 'data'))).toEqual(['data', 'data/own']);
  });

  it("may lead through root's own links on the way, absolute, relative and in a row", async () => {
    link(app, 'srv', 0);
    link('./srv/', 'current', 0);
    directory('tmp', 0, 0o1777);
    link('../current', 'tmp/app', 0);
    expect(await archive(join(scratch, 'tmp/app/data'))).toEqual(['data', 'data/own']);
  });

  it('may lead through a link of procfs, to what the kernel means by it', async () => {
    expect(await archive(join(`/proc/${process.pid}/root`, app, 'data'))).toEqual(['data', 'data/own']);
  });

  const unsafe: [what: string, make: () => string][] = [
    ['ends in a link of another user', () => link(secret, 'app/link', SERVICE)],
    ['ends in a link of another user to a file', () => link(join(secret, 'key'), 'app/link', SERVICE)],
    ["ends in a link of another user in root's directory", () => link(secret, 'link', SERVICE)],
    ["ends in a link of root's", () => link(secret, 'link', 0)],
    ['leads through a link of another user', () => join(link(scratch, 'app/up', SERVICE), 'secret')],
    ["leads through a link of root's in another user's directory", () => join(link(scratch, 'app/up', 0), 'secret')],
    [
      "leads through a link of root's in root's directory in another user's",
      () => (directory('app/of-root', 0), join(link(scratch, 'app/of-root/up', 0), 'secret')),
    ],
    [
      "leads through a link of root's where others can put another in its place",
      () => (directory('open', 0, 0o777), join(link(scratch, 'open/up', 0), 'secret')),
    ],
    [
      "leads through root's link to another user's",
      () => (link('up', 'first', 0), link(scratch, 'up', SERVICE), join(scratch, 'first/secret')),
    ],
  ];
  for (const precopy of [true, false]) {
    it.each(unsafe)(`is refused when it %s (looked at ahead: ${precopy})`, async (_, make) =>
      refused(make(), { precopy }),
    );
  }
});

describe('between the first copy and the window', () => {
  it.each([
    { what: 'the tree itself', name: 'app/data', target: () => secret },
    { what: 'a directory on the way', name: 'app', target: () => scratch },
  ])('$what is not exchanged for a link', async ({ name, target }) => {
    directory('data', 0, 0o700);
    writeFileSync(join(scratch, 'data/key'), 'of root');
    await refused(join(app, 'data'), {
      beforeWindow: () => {
        renameSync(join(scratch, name), join(scratch, `${name}.old`));
        link(target(), name, SERVICE);
      },
    });
  });

  it('a tree that is replaced by another is archived as it is then', async () => {
    const file = join(app, 'data/own');
    const beforeWindow = (): void => {
      writeFileSync(`${file}.new`, 'another');
      renameSync(`${file}.new`, file);
      renameSync(join(app, 'data'), join(app, 'data.old'));
      directory('app/data', SERVICE);
      writeFileSync(join(app, 'data/new'), 'new');
    };
    expect(await archive(join(app, 'data'), { beforeWindow })).toEqual(['data', 'data/new']);
  });

  it('a tree that is a single file may be replaced', async () => {
    const file = join(app, 'data/own');
    const beforeWindow = (): void => {
      writeFileSync(`${file}.new`, 'another');
      renameSync(`${file}.new`, file);
    };
    expect(await archive(file, { beforeWindow })).toEqual(['data']);
  });
});
