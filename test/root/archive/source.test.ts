import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  createReadStream,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { inspect, readMember, verify } from '../../../src/index.js';
import { program } from '../../fixtures/program.js';
import { archiveOf, tree, writeArchive } from './archive-fixture.js';

let scratch: string;
let path: string;
let bytes: Buffer;

beforeEach(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  const data = [
    { name: 'data', type: 'directory' as const },
    { name: 'data/table', stored: 'x'.repeat(100_000) },
  ];
  path = await writeArchive(scratch, archiveOf(data, [tree('data', 2)]));
  bytes = readFileSync(path);
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

describe('an archive that is no path', () => {
  it('is verified, inspected and read from streams, iterables and open files, packed or not', async () => {
    const sources = [
      () => createReadStream(path, { highWaterMark: 3 }),
      () => createReadStream(path),
      () => Readable.from([bytes.subarray(0, 1), bytes.subarray(1)]),
      () => Readable.from([gzipSync(bytes)]),
      async function* () {
        await Promise.resolve();
        yield new Uint8Array(bytes);
      },
    ];
    for (const source of sources) {
      expect(await verify(source(), { tmpDir: scratch })).toMatchObject({ archivePath: '(a stream)', members: 1 });
      expect((await inspect(source(), { archiveName: 'mine' })).archivePath).toBe('mine');
      expect((await readMember(source(), 'data/table')).length).toBe(100_000);
    }
    await using handle = await open(path);
    for (let times = 0; times < 2; times++) expect(await verify(handle)).toMatchObject({ archivePath: path });
    expect(readdirSync(scratch).length).toBe(1);
  });

  it('is named in errors: empty, cut short, damaged, too large, failed on the way, no bytes', async () => {
    const archiveName = 'the one from host';
    const code = (source: AsyncIterable<Uint8Array>, maxUnpackedBytes?: number): Promise<unknown> =>
      verify(source, { archiveName, maxUnpackedBytes }).catch((error: unknown) => error);
    const failing = async function* (): AsyncGenerator<Buffer> {
      await Promise.resolve();
      yield bytes.subarray(0, 5000);
      throw Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
    };
    const message = expect.stringContaining(archiveName) as string;
    expect(await code(Readable.from([]))).toMatchObject({ code: 'ARCHIVE_TRUNCATED', message });
    expect(await code(Readable.from([bytes.subarray(0, 5000)]))).toMatchObject({ code: 'ARCHIVE_TRUNCATED', message });
    const packed = gzipSync(bytes);
    expect(await code(Readable.from([packed.subarray(0, 200)]))).toMatchObject({ code: 'ARCHIVE_TRUNCATED', message });
    packed[300]! ^= 0xff;
    expect(await code(Readable.from([packed]))).toMatchObject({ code: 'ARCHIVE_DAMAGED', message });
    expect(await code(Readable.from([bytes]), 10_000)).toMatchObject({ code: 'ARCHIVE_TOO_BIG', message });
    expect(await code(failing())).toMatchObject({
      code: 'ARCHIVE_UNREADABLE',
      message,
      cause: { code: 'ECONNRESET' },
    });
    const text = Readable.from(['text']) as AsyncIterable<Uint8Array>;
    expect(await code(text)).toMatchObject({ code: 'ARCHIVE_UNREADABLE', message });
  });

  it('is given up at once when cancelled, however silent it is, and let go of', async () => {
    for (const begun of [false, true]) {
      const silent = new PassThrough();
      if (begun) silent.write(bytes.subarray(0, 5000));
      const cancel = new AbortController();
      const verified = verify(silent, { signal: cancel.signal });
      setTimeout(() => cancel.abort(new Error('enough')), 50);
      await expect(verified).rejects.toThrow('enough');
      expect(silent.destroyed).toBe(true);
    }
  });
});

describe('the standard input of the command', () => {
  async function run(
    args: string[],
    stdin: 'pipe' | number,
  ): Promise<{ status: unknown; stdout: string; stderr: string }> {
    const child = spawn(process.execPath, [program, ...args], { stdio: [stdin, 'pipe', 'pipe'] });
    const said = { stdout: '', stderr: '' };
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (said.stderr += text));
    if (child.stdin !== null) {
      child.stdin.on('error', () => undefined);
      child.stdin.end(input);
    }
    const [status] = (await once(child, 'close')) as unknown[];
    return { status, ...said };
  }
  let input: Buffer;

  it('may be a pipe or a file, also one that somebody has begun to read', async () => {
    for (input of [bytes, gzipSync(bytes)]) {
      const piped = await run(['verify', '-'], 'pipe');
      // Whole, and no checkpoint: it would not restore.
      expect(piped).toMatchObject({ status: 1, stderr: '' });
      expect(piped.stdout).toMatch(/^\(standard input\): 1 members/);
    }
    const file = await run(['inspect', '-', '--json'], openSync(path, 'r'));
    expect(JSON.parse(file.stdout)).toMatchObject({ archivePath: '(standard input)', compression: 'none' });
    const behind = join(scratch, 'behind');
    writeFileSync(behind, Buffer.concat([Buffer.from('head'), bytes]));
    const shell = spawn(
      'sh',
      ['-c', `{ head -c 4 >/dev/null; exec "$0" "$1" inspect -; } < "$2"`, process.execPath, program, behind],
      { stdio: 'ignore' },
    );
    expect(await once(shell, 'close')).toEqual([0, null]);
  });

  it('has a FIFO beside it, and the pipe of a process substitution', async () => {
    input = Buffer.alloc(0);
    const script = 'gzip -c "$2" > "$2.gz"; exec "$0" "$1" inspect <(cat "$2.gz") >/dev/null';
    const shell = spawn('bash', ['-c', script, process.execPath, program, path], { stdio: 'inherit' });
    expect(await once(shell, 'close')).toEqual([0, null]);
    const fifo = join(scratch, 'fifo');
    execFileSync('mkfifo', [fifo]);
    const silent = await run(['inspect', fifo], 'pipe');
    expect(silent.stderr).toMatch(/fifo is cut short: nothing came.*\[ARCHIVE_TRUNCATED\]/s);
    const writer = spawn('sh', ['-c', 'exec cat "$0" > "$1"', path, fifo], { stdio: 'ignore' });
    onTestFinished(() => void writer.kill('SIGKILL'));
    const holder = openSync(fifo, 'r+');
    expect(await once(spawn('sh', ['-c', 'sleep 0.1'], { stdio: 'ignore' }), 'close')).toEqual([0, null]);
    const reading = run(['inspect', fifo], 'pipe');
    await once(writer, 'close');
    closeSync(holder);
    expect(await reading).toMatchObject({ status: 0, stderr: '' });
  });

  it('is named when nothing comes from it', async () => {
    input = Buffer.alloc(0);
    const empty = await run(['restore', '-'], 'pipe');
    expect(empty).toMatchObject({ status: 1, stdout: '' });
    expect(empty.stderr).toMatch(/\(standard input\).*nothing came.*\[ARCHIVE_TRUNCATED\]/s);
  });
});
