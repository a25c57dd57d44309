/** A restore reads its archive once: the file trees are made, hidden, by the pass that verifies it. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openArchive, readManifestAhead, verifyArchive } from '../../../src/archive/index.js';
import { checkpoint, restore } from '../../../src/index.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { forge, imageMembers, tree, treeSubject } from '../../fixtures/forge-archive.js';

const MIB = 1024 * 1024;
const version = freezerVersions()[0]!;

/** What this process, and its children that have ended, have read, in bytes. */
function bytesRead(): number {
  return Number(/^rchar: (\d+)$/m.exec(readFileSync('/proc/self/io', 'latin1'))?.[1]);
}

function scratchDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

describe('a restore', () => {
  it.each(['nothing is at its destinations', 'it replaces what is there'])(
    'reads its archive once: %s',
    async (how) => {
      await using writer = await BusyWriter.start(version);
      const [archive, single] = [writer.path('app.tar'), writer.path('single')];
      writeFileSync(join(writer.data, 'large'), Buffer.alloc(8 * MIB, 'large'));
      writeFileSync(single, Buffer.alloc(8 * MIB, 'single'));
      const files = [
        { path: writer.data, name: 'data' },
        { path: single, name: 'single' },
      ];
      await checkpoint({ pid: writer.pid, files, output: archive });
      const replaces = how.startsWith('it');
      if (replaces) await writer.kill();
      else {
        await writer.destroy();
        rmSync(single);
      }
      const before = bytesRead();
      await restore({ archive, ...(replaces ? { replaceFiles: 'remove' } : {}) });
      // CRIU's images, the programs' files and /proc are read, too.
      expect(bytesRead() - before).toBeLessThan(statSync(archive).size * 1.6);
      expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
      expect(readFileSync(single).equals(Buffer.alloc(8 * MIB, 'single'))).toBe(true);
      expect(writer.leftovers()).toEqual(['app.tar', 'single']);
    },
  );

  it('extracts into an empty directory that is there, and a tree into another, as ever', async () => {
    await using writer = await BusyWriter.start(version);
    const [archive, box, single] = [writer.path('app.tar'), writer.path('box'), writer.path('single')];
    mkdirSync(box);
    writeFileSync(join(box, 'content'), 'of the box');
    writeFileSync(single, 'single');
    const files = [
      { path: writer.data, name: 'data' },
      { path: box, name: 'box' },
      { path: single, name: 'single' },
    ];
    await checkpoint({ pid: writer.pid, files, output: archive });
    await writer.destroy();
    const elsewhere = writer.path('elsewhere');
    mkdirSync(elsewhere);
    mkdirSync(writer.data);
    const inodes = [elsewhere, writer.data].map((path) => statSync(path).ino);
    await restore({ archive, files: { box: elsewhere, single: join(elsewhere, 'single') } });
    expect([elsewhere, writer.data].map((path) => statSync(path).ino)).toEqual(inodes);
    expect(readdirSync(elsewhere).sort()).toEqual(['content', 'single']);
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    expect(writer.leftovers()).toEqual(['app.tar', 'box', 'elsewhere', 'single']);
  });
});

describe('nothing of the trees is left', () => {
  const members = [
    { name: 'data', type: 'directory' as const },
    { name: 'data/file', stored: 'archived' },
    { name: 'single', stored: 'archived, too' },
  ];

  /** An archive whose trees lay in `dir`. */
  function archiveIn(dir: string, more: Parameters<typeof forge>[0]['members'] = []): Buffer {
    const trees = [tree('data', 2), tree('single', 1)].map((record) => ({
      ...record,
      source: join(dir, String(record.name)),
    }));
    return forge({ members: [...imageMembers, ...members, ...more], trees, subject: treeSubject() });
  }

  async function refused(bytes: Buffer, replaces: boolean): Promise<unknown> {
    const elsewhere = scratchDir();
    const archive = join(elsewhere, 'a.tar');
    writeFileSync(archive, bytes);
    const options = replaces ? { replaceFiles: 'remove' as const } : {};
    return restore({ archive, stateDir: join(elsewhere, 'state'), ...options }).catch((error: unknown) => error);
  }

  const last = { name: 'zz', stored: 'the last member' };
  it.each<[what: string, code: string, spoil: (bytes: Buffer) => void]>([
    ['the last member is damaged', 'ARCHIVE_DAMAGED', (bytes) => void (bytes[bytes.indexOf(last.stored)]! ^= 1)],
    ['the list of hashes is', 'ARCHIVE_DAMAGED', (bytes) => void (bytes[bytes.indexOf('  zz\n') - 1]! ^= 1)],
    ['the images are none', 'IMAGES_FAILED', () => undefined],
  ])('when %s', async (_, code, spoil) => {
    for (const replaces of [false, true]) {
      const dir = scratchDir();
      if (replaces) {
        mkdirSync(join(dir, 'data'));
        writeFileSync(join(dir, 'data', 'file'), 'before');
      }
      const bytes = archiveIn(dir, [last]);
      spoil(bytes);
      const { mtimeMs } = statSync(dir);
      expect(await refused(bytes, replaces)).toMatchObject({ code });
      // It was there, hidden.
      expect(statSync(dir).mtimeMs).toBeGreaterThan(mtimeMs);
      expect(readdirSync(dir)).toEqual(replaces ? ['data'] : []);
      if (replaces) expect(readFileSync(join(dir, 'data', 'file'), 'utf8')).toBe('before');
    }
  });

  it('when one of them breaks a rule', async () => {
    const dir = scratchDir();
    const bad = { name: 'data/owner', stored: '', uid: 0xffffffff };
    const trees = [{ ...tree('data', 3), source: join(dir, 'data') }];
    const bytes = forge({ members: [...imageMembers, ...members.slice(0, 2), bad], trees, subject: treeSubject() });
    expect(await refused(bytes, false)).toMatchObject({ code: 'IMAGES_FAILED' });
    expect(readdirSync(dir)).toEqual([]);
  });
});

describe('the manifest that is read ahead', () => {
  async function ahead(bytes: Buffer): Promise<Awaited<ReturnType<typeof readManifestAhead>>> {
    const path = join(scratchDir(), 'a.tar');
    writeFileSync(path, bytes);
    await using archive = await openArchive(path);
    return await readManifestAhead(archive);
  }

  it.each([1, 100_000])("is the archive's own, with %i bytes more", async (length) => {
    const subject = treeSubject({ more: 'x'.repeat(length) });
    const found = await ahead(forge({ members: [...imageMembers], subject }));
    expect(found?.manifest.subject).toEqual(subject);
  });

  it('is not there where the archive has none at its end', async () => {
    const bytes = forge({ members: [...imageMembers], subject: treeSubject() });
    for (const other of [bytes.subarray(0, -512), bytes.subarray(0, 2048), Buffer.from('no tar')])
      expect(await ahead(other)).toBeUndefined();
  });

  it('must be the one that is verified', async () => {
    const path = join(scratchDir(), 'a.tar');
    writeFileSync(path, forge({ members: [...imageMembers], subject: treeSubject() }));
    await using archive = await openArchive(path);
    const found = (await readManifestAhead(archive))!;
    await expect(verifyArchive(archive, { ahead: found })).resolves.toBeDefined();
    const other = forge({ members: [...imageMembers], subject: treeSubject({ pid: 888_888 }) });
    truncateSync(path, 0);
    writeFileSync(path, other, { flag: 'r+' });
    expect(existsSync(path)).toBe(true);
    await expect(verifyArchive(archive, { ahead: found })).rejects.toMatchObject({
      code: 'ARCHIVE_DAMAGED',
      facts: { member: 'stillframe/manifest.json', what: expect.stringContaining('changed') as string },
    });
  });
});
