import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import {
  ArchiveWriter,
  openArchive,
  Stage,
  verifyArchive,
  type ArchiveError,
  type TreeSource,
} from '../../../src/archive/index.js';
import { listen } from './random-tree.js';
import { unmount } from '../../fixtures/unmount.js';

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
  await stage.refresh({ mapped: none(), writable: () => new Set() });
  await writer.addDocument({ name: 'note', data: 'a document' });
  await writer.seal({ subject: { kind: 'test' } });
}

describe('a hidden file', () => {
  test('is told before it is made, and once it is gone', async () => {
    const outputPath = join(dir, 'out/x.tar');
    writeFileSync(outputPath, 'old');
    const told: string[] = [];
    const hidden = {
      willMake: (path: string) => {
        expect(path).toMatch(/\/out\/\.stillframe-[^/]*$/); // what the guardian is willing to remove
        told.push(`will make ${readdirSync(join(dir, 'out')).join(' ')}`);
      },
      removed: () => told.push(`gone ${readdirSync(join(dir, 'out')).join(' ')}`),
    };
    await using writer = await ArchiveWriter.create({ outputPath, overwrite: true, hidden });
    await writer.addDocument({ name: 'note', data: 'a document' });
    await writer.seal({ subject: { kind: 'test' } });
    expect(told).toEqual(['will make x.tar', 'gone x.tar']);
    expect(readFileSync(outputPath, 'latin1')).not.toBe('old');
  });
});

describe('a file of the machine as a member', () => {
  const seal = async (file: string): Promise<string> => {
    const outputPath = join(dir, 'out/x.tar');
    await using writer = await ArchiveWriter.create({ outputPath });
    await writer.addFile({ name: 'log', file });
    await writer.addDocument({ name: 'note', data: 'a document' });
    await writer.seal({ subject: { kind: 'test' } });
    await using archive = await openArchive(outputPath);
    await verifyArchive(archive);
    return outputPath;
  };

  test('is copied a piece at a time, however long it is', async () => {
    const file = join(dir, 'log');
    writeFileSync(file, Buffer.alloc(96 * 1024 * 1024 + 77, 'line\n'));
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    const timer = setInterval(() => (most = Math.max(most, process.memoryUsage().arrayBuffers - before)), 5);
    const outputPath = await seal(file).finally(() => clearInterval(timer));
    expect(most).toBeLessThan(32 * 1024 * 1024);
    expect(execFileSync('sh', ['-c', `tar -xOf ${outputPath} log | cmp - ${file}`]).toString()).toBe('');
  });

  test('is as long as it was when it was copied, although somebody writes to it', async () => {
    const file = join(dir, 'log');
    writeFileSync(file, 'line\n'.repeat(10_000));
    const writer = spawn('sh', ['-c', 'while :; do echo more; done >> "$1"', 'sh', file]);
    onTestFinished(() => void writer.kill('SIGKILL'));
    const outputPath = await seal(file);
    const copied = execFileSync('tar', ['-xOf', outputPath, 'log'], { maxBuffer: 1 << 28 });
    expect(copied.length).toBeGreaterThanOrEqual(50_000);
    expect(readFileSync(file).subarray(0, copied.length).equals(copied)).toBe(true);
  });

  test('is left out when it is gone, or is no file', async () => {
    execFileSync('mkfifo', [join(dir, 'fifo')]);
    for (const file of [join(dir, 'none'), join(dir, 'fifo')]) {
      const outputPath = await seal(file);
      expect(execFileSync('tar', ['-tf', outputPath], { encoding: 'utf8' })).not.toMatch(/^log$/m);
      rmSync(outputPath);
    }
  });
});

describe('an archive', () => {
  test('holds what the tree holds, as GNU tar and as the verifier see it', async () => {
    const outputPath = join(dir, 'out/x.tar');
    await archive([{ path: join(dir, 'tree'), name: 'tree' }], outputPath);
    const names = execFileSync('tar', ['-tf', outputPath], { encoding: 'utf8' }).split('\n').filter(Boolean);
    expect(names.sort()).toEqual([
      'note',
      'stillframe/manifest.json',
      'stillframe/manifest.sha256',
      'stillframe/members.sha256',
      'tree/',
      'tree/a',
      'tree/sub/',
      'tree/sub/b',
    ]);
    execFileSync('tar', ['-xpf', outputPath, '-C', join(dir, 'out')]);
    execFileSync('diff', ['-r', join(dir, 'tree'), join(dir, 'out/tree')]);
    execFileSync('sha256sum', ['--check', '--strict', 'stillframe/members.sha256'], { cwd: join(dir, 'out') });
    execFileSync('sha256sum', ['--check', '--strict', 'stillframe/manifest.sha256'], { cwd: join(dir, 'out') });
    const opened = await openArchive(outputPath);
    const verified = await verifyArchive(opened);
    expect(verified.manifest.trees).toMatchObject([
      { name: 'tree', source: join(dir, 'tree'), layout: 'members', entries: 4, bytes: 3_000_003, skippedSockets: [] },
    ]);
    await opened.close();
    expect(statSync(outputPath).mode & 0o777).toBe(0o600);
  });
});

describe('the output', () => {
  const tree = (): TreeSource => ({ path: join(dir, 'tree'), name: 'tree' });

  test('is there only when it is complete, and an abandoned one leaves nothing', async () => {
    {
      await using writer = await ArchiveWriter.create({ outputPath: join(dir, 'out/x.tar') });
      const stage = new Stage(writer, [tree()]);
      await stage.precopy({ mapped: none });
      await stage.refresh({ mapped: none(), writable: () => new Set() });
      expect(readdirSync(join(dir, 'out'))).toEqual([]);
    }
    expect(readdirSync(join(dir, 'out'))).toEqual([]);
  });

  test('is not written over what is there, unless asked', async () => {
    const outputPath = join(dir, 'out/x.tar');
    writeFileSync(outputPath, 'mine');
    await expect(archive([tree()], outputPath)).rejects.toMatchObject({
      code: 'OUTPUT_EXISTS',
      facts: { path: outputPath },
    });
    expect(readFileSync(outputPath, 'utf8')).toBe('mine');
    await archive([tree()], outputPath, true);
    expect(execFileSync('tar', ['-xOf', outputPath, 'tree/a'], { encoding: 'utf8' })).toBe('one');
    expect(readdirSync(join(dir, 'out'))).toEqual(['x.tar']);
  });

  test('that appears while we write is left alone', async () => {
    const outputPath = join(dir, 'out/x.tar');
    await using writer = await ArchiveWriter.create({ outputPath });
    writeFileSync(outputPath, 'faster');
    await expect(writer.seal({ subject: {} })).rejects.toMatchObject({ code: 'OUTPUT_EXISTS' });
    expect(readFileSync(outputPath, 'utf8')).toBe('faster');
  });

  test('needs a directory that is there', async () => {
    await expect(ArchiveWriter.create({ outputPath: join(dir, 'nowhere/x.tar') })).rejects.toMatchObject({
      code: 'OUTPUT_DIR_MISSING',
      facts: { path: join(dir, 'nowhere') },
    });
    await expect(ArchiveWriter.create({ outputPath: join(dir, 'tree/a/x.tar') })).rejects.toMatchObject({
      code: 'OUTPUT_DIR_MISSING',
    });
  });

  for (const [what, args] of [
    ['full', ['-o', 'size=1m']],
    ['read-only', ['-o', 'ro']],
  ] as const) {
    test(`on a ${what} file system is refused with a reason, and nothing is left`, async () => {
      execFileSync('mount', ['-t', 'tmpfs', ...args, 'none', join(dir, 'out')]);
      try {
        const error: unknown = await archive([tree()], join(dir, 'out/x.tar')).catch((e: unknown) => e);
        expect(error).toMatchObject(what === 'full' ? { code: 'OUTPUT_FULL' } : { code: 'OUTPUT_FAILED' });
        // How much it needed is what a person wants to know then: the tree's bytes at least, and not much more.
        if (what === 'full')
          expect((error as ArchiveError).facts.bytes).toSatisfy(
            (bytes: number) => bytes > 3_000_000 && bytes < 3_100_000,
          );
        expect(readdirSync(join(dir, 'out'))).toEqual([]);
      } finally {
        unmount(join(dir, 'out'));
      }
    });
  }

  test('inside the archived tree is refused', async () => {
    await expect(archive([tree()], join(dir, 'tree/sub/x.tar'))).rejects.toMatchObject({
      code: 'STAGING_INSIDE_TREE',
      facts: { path: join(dir, 'tree') },
    });
    expect(readdirSync(join(dir, 'tree/sub'))).toEqual(['b']);
  });

  test('may be a stream, and is compressed on request', async () => {
    const chunks: Buffer[] = [];
    const output = new Writable({
      highWaterMark: 1000,
      write: (chunk: Buffer, _, done) => (chunks.push(chunk), setTimeout(done, 1)),
    });
    {
      await using writer = await ArchiveWriter.create({ output, stagingDir: join(dir, 'out'), compress: 'gzip' });
      const stage = new Stage(writer, [tree()]);
      await stage.refresh({ mapped: none(), writable: () => new Set() });
      const sealed = await writer.seal({ subject: {} });
      expect(sealed).toMatchObject({ path: undefined, bytes: Buffer.concat(chunks).length });
    }
    expect(readdirSync(join(dir, 'out'))).toEqual([]);
    execFileSync('tar', ['-xzf', '-', '-C', join(dir, 'out')], { input: Buffer.concat(chunks) });
    execFileSync('diff', ['-r', join(dir, 'tree'), join(dir, 'out/tree')]);
  });

  test.each(['gzip', 'zstd'] as const)('may be a file compressed with %s', async (compress) => {
    const outputPath = join(dir, 'out/x.tar');
    await using writer = await ArchiveWriter.create({ outputPath, compress });
    await new Stage(writer, [tree()]).refresh({ mapped: none(), writable: () => new Set() });
    await writer.seal({ subject: {} });
    execFileSync(compress, ['-tq', outputPath]);
    const opened = await openArchive(outputPath);
    expect(opened.compression).toBe(compress);
    expect((await verifyArchive(opened)).manifest.trees).toHaveLength(1);
    await opened.close();

    writeFileSync(outputPath, readFileSync(outputPath).subarray(0, -100));
    await expect(openArchive(outputPath)).rejects.toMatchObject({
      code: expect.stringMatching(/^ARCHIVE_(TRUNCATED|DAMAGED)$/) as string,
    });
  });

  test('that breaks off is an error, and nothing is left', async () => {
    const output = new Writable({
      write: (_chunk, _, done) => done(Object.assign(new Error('EPIPE: broken pipe'), { code: 'EPIPE', errno: -32 })),
    });
    await using writer = await ArchiveWriter.create({ output, stagingDir: join(dir, 'out') });
    await expect(writer.seal({ subject: {} })).rejects.toMatchObject({
      code: 'OUTPUT_FAILED',
      cause: { code: 'EPIPE' },
    });
    expect(readdirSync(join(dir, 'out'))).toEqual([]);
  });
});

describe('the input', () => {
  test('that is missing is named', async () => {
    await expect(archive([{ path: join(dir, 'gone'), name: 'x' }], join(dir, 'out/x.tar'))).rejects.toMatchObject({
      code: 'TREE_MISSING',
      facts: { path: join(dir, 'gone') },
    });
  });

  test('that vanishes after the first copy is named', async () => {
    await using writer = await ArchiveWriter.create({ outputPath: join(dir, 'out/x.tar') });
    const stage = new Stage(writer, [{ path: join(dir, 'tree'), name: 'tree' }]);
    await stage.precopy({ mapped: none });
    rmSync(join(dir, 'tree'), { recursive: true });
    await expect(stage.refresh({ mapped: none(), writable: () => new Set() })).rejects.toMatchObject({
      code: 'TREE_MISSING',
      facts: { path: join(dir, 'tree') },
    });
  });

  test('may be a single file', async () => {
    await archive([{ path: join(dir, 'tree/a'), name: 'only' }], join(dir, 'out/x.tar'));
    expect(execFileSync('tar', ['-xOf', join(dir, 'out/x.tar'), 'only'], { encoding: 'utf8' })).toBe('one');
  });

  test('may leave things out', async () => {
    await archive([{ path: join(dir, 'tree'), name: 'tree', exclude: ['sub/b', 'a'] }], join(dir, 'out/x.tar'));
    expect(execFileSync('tar', ['-tf', join(dir, 'out/x.tar')], { encoding: 'utf8' })).toMatch(
      /^tree\/\ntree\/sub\/\nnote\n/,
    );
  });

  test('of several trees keeps them apart, nested ones as tars of their own', async () => {
    mkdirSync(join(dir, 'other/deep'), { recursive: true });
    writeFileSync(join(dir, 'other/deep/c'), 'three');
    for (const nested of ['tree', 'other']) {
      const layout = (name: string): TreeSource => ({
        path: join(dir, name),
        name,
        layout: name === nested ? 'nested' : 'members',
      });
      const outputPath = join(dir, `out/${nested}.tar`);
      await archive([layout('tree'), layout('other')], outputPath);
      const opened = await openArchive(outputPath);
      await verifyArchive(opened).finally(() => opened.close());
      const into = join(dir, `out/${nested}`);
      mkdirSync(join(into, 'inner'), { recursive: true });
      execFileSync('tar', ['-xf', outputPath, '-C', into]);
      execFileSync('tar', ['-xf', join(into, nested), '-C', join(into, 'inner')]);
      execFileSync('diff', ['-r', join(dir, nested), join(into, 'inner')]);
      const plain = nested === 'tree' ? 'other' : 'tree';
      execFileSync('diff', ['-r', join(dir, plain), join(into, plain)]);
    }
  });

  test('leaves sockets out and lists them', async () => {
    await using _server = await listen(join(dir, 'tree/socket'));
    await archive([{ path: join(dir, 'tree'), name: 'tree' }], join(dir, 'out/x.tar'));
    const opened = await openArchive(join(dir, 'out/x.tar'));
    expect((await verifyArchive(opened)).manifest.trees).toMatchObject([{ entries: 4, skippedSockets: ['socket'] }]);
    await opened.close();
  });

  test('that is not current cannot be sealed', async () => {
    await using writer = await ArchiveWriter.create({ outputPath: join(dir, 'out/x.tar') });
    await new Stage(writer, [{ path: join(dir, 'tree'), name: 'tree' }]).precopy({ mapped: none });
    await expect(writer.seal({ subject: {} })).rejects.toThrow(/not current/);
  });
});
