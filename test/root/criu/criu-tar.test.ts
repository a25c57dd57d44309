/** native/criu-tar: the `tar` that a CRIU finds while it dumps for Stillframe. GNU tar extracts what it writes. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { findHelperTar, helperEnvironment } from '../../../src/criu/process/helpers.js';
import { fillTmpfs, makeTmpfs } from '../../fixtures/tmpfs.js';
import { fingerprint } from '../archive/fingerprint.js';

// Source: tmpfs_dump and tmpfs_restore, criu/filesystems.c, CRIU v4.2.
const TO_DUMP =
  '--create --gzip --no-unquote --no-wildcards --one-file-system --check-links --preserve-permissions --sparse ' +
  '--numeric-owner --directory /proc/self/fd/0 .';
const TO_RESTORE = '--extract --gzip --no-unquote --no-wildcards --directory';

const helper = findHelperTar()!;
const S_IFSOCK = 0o140000;

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  return directory;
}

/** As CRIU does: standard input is the mount point, standard output the image. */
function dump(tar: string, directory: string, archive: string) {
  const [input, output] = [openSync(directory, 'r'), openSync(archive, 'w')];
  try {
    return spawnSync(tar, TO_DUMP.split(' '), { stdio: [input, output, 'pipe'], encoding: 'utf8', env: {} });
  } finally {
    for (const fd of [input, output]) closeSync(fd);
  }
}

function restore(archive: string, directory: string): void {
  const input = openSync(archive, 'r');
  const { status, stderr } = spawnSync('tar', [...TO_RESTORE.split(' '), directory], {
    stdio: [input, 'ignore', 'pipe'],
    encoding: 'utf8',
  });
  closeSync(input);
  if (status !== 0) throw new Error(`tar ended with ${status}: ${stderr}`);
}

/** Without sockets, which nobody can restore, and whose lack changes the time of no other entry. */
function withoutSockets(tree: unknown): unknown {
  return Object.fromEntries(
    Object.entries(tree as Record<string, { type: number }>).filter(([, { type }]) => type !== S_IFSOCK),
  );
}

const seed = Number(process.env['STILLFRAME_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

describe('what it writes of a tmpfs', () => {
  test.each([0, 1, 2].map((n) => seed + n))(
    'is extracted by GNU tar as it was, to the nanosecond, seed %i',
    { timeout: 120_000 },
    (seed) => {
      const [source, copy] = [makeTmpfs(), makeTmpfs()];
      const archive = join(scratch(), 'image');
      fillTmpfs(source, seed);
      const before = fingerprint(source);
      expect(dump(helper, source, archive)).toMatchObject({
        status: 0,
        stderr: expect.stringMatching(/^(tar: .*: socket ignored\n){2}$/) as string,
      });
      restore(archive, copy);
      expect(fingerprint(copy)).toEqual(withoutSockets(before));
      expect(fingerprint(source), 'the source is as it was').toEqual(before);
      expect(
        spawnSync('gzip', ['--test', '--stdout'], { stdio: [openSync(archive, 'r'), 'ignore', 'pipe'] }).status,
      ).toBe(0);
    },
  );

  test(
    'is small and whole for an empty one, and whole for a full one and one of 200,000 entries',
    { timeout: 240_000 },
    () => {
      const archive = join(scratch(), 'image');
      const [empty, full, many, copy] = [
        makeTmpfs(),
        makeTmpfs('size=4m'),
        makeTmpfs('size=1g,nr_inodes=0'),
        makeTmpfs(),
      ];
      expect(dump(helper, empty, archive).status).toBe(0);
      expect(statSync(archive).size).toBeLessThan(300);
      restore(archive, copy);
      expect(fingerprint(copy)).toEqual(fingerprint(empty));

      spawnSync('dd', ['if=/dev/urandom', `of=${full}/all`, 'bs=64k'], { stdio: 'ignore' });
      expect(dump(helper, full, archive).status).toBe(0);
      restore(archive, copy);
      expect(fingerprint(copy)).toEqual(fingerprint(full));

      const script =
        'import os,sys\nfor d in range(200):\n os.mkdir(f"{sys.argv[1]}/{d}")\n for f in range(999): os.symlink("x",f"{sys.argv[1]}/{d}/{f}")';
      spawnSync('/usr/bin/python3', ['-IS', '-c', script, many]);
      expect(dump(helper, many, archive).status).toBe(0);
      const count = spawnSync('sh', ['-c', `tar --list --gzip --file '${archive}' | wc -l`], { encoding: 'utf8' });
      expect(Number(count.stdout)).toBe(200_001);
    },
  );

  test('leaves what is mounted on it out, as GNU tar does', () => {
    const source = makeTmpfs();
    const archive = join(scratch(), 'image');
    mkdirSync(join(source, 'mounted'));
    spawnSync('mount', ['-t', 'tmpfs', 'none', join(source, 'mounted')]);
    onTestFinished(() => void spawnSync('umount', [join(source, 'mounted')]));
    writeFileSync(join(source, 'mounted/inside'), '');
    expect(dump(helper, source, archive).status).toBe(0);
    expect(spawnSync('tar', ['--list', '--gzip', '--file', archive], { encoding: 'utf8' }).stdout).toBe(
      './\n./mounted/\n',
    );
  });
});

describe('it fails, so that the dump does', () => {
  test('when a file changes while it is read', async () => {
    const source = makeTmpfs();
    writeFileSync(join(source, 'busy'), Buffer.alloc(1 << 20, 1));
    const input = openSync(source, 'r');
    const child = spawn(helper, TO_DUMP.split(' '), { stdio: [input, 'pipe', 'pipe'] });
    closeSync(input);
    const said: Buffer[] = [];
    child.stderr!.on('data', (chunk: Buffer) => said.push(chunk));
    await once(child.stdout!, 'readable'); // the pipe holds less than the file: it waits in the middle
    appendFileSync(join(source, 'busy'), 'more');
    child.stdout!.resume();
    const [status] = (await once(child, 'close')) as [number];
    expect({ status, said: Buffer.concat(said).toString() }).toEqual({
      status: 1,
      said: 'tar: ./busy: file changed as we read it\n',
    });
  });

  test('when the image cannot be written', () => {
    expect(dump(helper, makeTmpfs(), '/dev/full')).toMatchObject({
      status: 2,
      stderr: 'tar: the archive: cannot write: No space left on device\n',
    });
  });
});

describe('what it does not know', () => {
  const ask = (args: string[], env: NodeJS.ProcessEnv) => spawnSync(helper, args, { encoding: 'utf8', env });

  test('goes to the tar that the PATH of whoever started it has, in an absolute directory', () => {
    const evil = scratch();
    const confusing = scratch();
    mkdirSync(join(confusing, 'tar'));
    writeFileSync(join(evil, 'tar'), '#!/bin/sh\necho evil\n', { mode: 0o755 });
    const path = process.env['PATH'] ?? '';
    vi.stubEnv('PATH', ['', '.', 'bin', evil.slice(1), confusing, '/no-such-directory', path].join(delimiter));
    const env = helperEnvironment();
    vi.unstubAllEnvs();
    expect(env).toMatchObject({ STILLFRAME_TAR: expect.stringMatching(/^\/(usr\/)?bin\/tar$/) as string });
    expect(env?.['PATH']?.split(delimiter)[0]).toBe(dirname(helper));
    expect(readdirSync(dirname(helper)), 'nothing else is found there').toEqual(['tar']);
    expect(ask(['--version'], env!).stdout).toMatch(/^tar \(GNU tar\)/);
    for (const changed of [TO_DUMP.replace('--sparse ', ''), `${TO_DUMP} x`, TO_DUMP.replace('fd/0', 'fd/0x'), ''])
      expect(ask(changed.split(' '), { STILLFRAME_TAR: '/bin/echo' }).stdout).toBe(`${changed}\n`);
  });

  test('is an error where there is none', () => {
    vi.stubEnv('PATH', '/no-such-directory');
    const env = helperEnvironment();
    vi.unstubAllEnvs();
    const said = 'tar: tar: there is no other tar on PATH, and this one makes only the dumps that CRIU asks for\n';
    const { PATH } = env!;
    for (const with_ of [{}, { STILLFRAME_TAR: 'tar' }])
      expect(spawnSync('tar', TO_RESTORE.split(' '), { encoding: 'utf8', env: { PATH, ...with_ } })).toMatchObject({
        status: 2,
        stderr: said,
      });
    expect(env).toMatchObject({ STILLFRAME_TAR: undefined });
  });
});
