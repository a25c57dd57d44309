import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ArchiveWriter, openArchive, Stage, verifyArchive, type TreeSource } from '../../../src/archive/index.js';

let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  mkdirSync(join(dir, 'tree/sub'), { recursive: true });
  mkdirSync(join(dir, 'out'));
  writeFileSync(join(dir, 'tree/a'), 'one');
  writeFileSync(join(dir, 'tree/sub/b'), Buffer.alloc(3_000_000, 7));
});

afterEach(() => rmSync(dir, { recursive: true, force: true }));

const none = () => new Set<string>();

async function archive(sources: TreeSource[], outputPath: string, overwrite = false): Promise<void> {
  await using writer = await ArchiveWriter.create({ outputPath, overwrite });
  const stage = new Stage(writer, sources);
  await stage.precopy({ mapped: none });
  await stage.refresh({ mapped: none() });
  await writer.addDocument({ name: 'note', data: 'a document' });
  await writer.seal({ subject: { kind: 'test' } });
}

describe('an archive', () => {
  test('holds what the tree holds, as GNU tar and as the verifier see it', async () => {
    const outputPath = join(dir, 'out/x.tar');
    await archive([{ path: join(dir, 'tree'), name: 'tree' }], outputPath);
    const names = execFileSync('tar', ['-tf', outputPath], { encoding: 'utf8' }).split('\n').filter(Boolean);
    expect(names.sort()).toEqual(['note', 'stillframe/manifest.json', 'stillframe/manifest.sha256', 'stillframe/members.sha256', 'tree/', 'tree/a', 'tree/sub/', 'tree/sub/b']);
    execFileSync('tar', ['-xpf', outputPath, '-C', join(dir, 'out')]);
    execFileSync('diff', ['-r', join(dir, 'tree'), join(dir, 'out/tree')]);
    execFileSync('sha256sum', ['--check', '--strict', 'stillframe/members.sha256'], { cwd: join(dir, 'out') });
    execFileSync('sha256sum', ['--check', '--strict', 'stillframe/manifest.sha256'], { cwd: join(dir, 'out') });
    const opened = await openArchive(outputPath);
    const verified = await verifyArchive(opened);
    expect(verified.manifest.trees).toMatchObject([{ name: 'tree', source: join(dir, 'tree'), layout: 'members', entries: 4, bytes: 3_000_003, skippedSockets: [] }]);
    await opened.close();
    expect(statSync(outputPath).mode & 0o777).toBe(0o600);
  });
});
