import { execFile } from 'node:child_process';
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, expect, test, vi } from 'vitest';
import { CriuClient, CriuError, findCriu, listCriu } from '../../../src/criu/index.js';
import { scratch } from '../../fixtures/criu.js';

afterEach(() => {
  vi.unstubAllEnvs();
});

const run = promisify(execFile);

async function failure(promise: Promise<unknown>): Promise<CriuError> {
  const error: unknown = await promise.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CriuError);
  return error as CriuError;
}

test('the one found answers for itself', async () => {
  const found = await findCriu();
  await using client = await CriuClient.start({ criuPath: found.path });
  const version = await client.version();
  expect(found).toMatchObject({ version: version.text, versionNumber: version.versionNumber });
});

test('a second search in the same process starts no CRIU', async () => {
  await findCriu();
  const start = vi.spyOn(CriuClient, 'start');
  await findCriu();
  expect(start).not.toHaveBeenCalled();
  start.mockRestore();
});

test('a path that does not exist is CRIU_NOT_FOUND and no other is tried', async () => {
  const error = await failure(findCriu({ criuPath: '/nonexistent/criu' }));
  expect(error.code).toBe('CRIU_NOT_FOUND');
  expect(error.facts.tried?.map(({ path }) => path)).toEqual(['/nonexistent/criu']);
  expect((await failure(CriuClient.start({ criuPath: '/nonexistent/criu' }))).cause).toMatchObject({ code: 'ENOENT' });
});

test('a file that cannot be run says so', async () => {
  await using dir = await scratch();
  const path = join(dir.path, 'criu');
  await writeFile(path, 'not a program');
  expect((await failure(CriuClient.start({ criuPath: path }))).cause).toMatchObject({ code: 'EACCES' });
});

test('what is on PATH and does not work is passed over, and listed with the reason', async () => {
  const works = await findCriu();
  await using dir = await scratch();
  const broken = join(dir.path, 'bin');
  await mkdir(broken);
  await writeFile(join(broken, 'criu'), '#!/bin/sh\necho "broken on purpose" >&2; exit 7\n');
  await chmod(join(broken, 'criu'), 0o755);

  vi.stubEnv('STILLFRAME_CRIU', join(broken, 'criu'));
  vi.stubEnv('PATH', `${join(works.path, '..')}:${process.env.PATH ?? ''}`);
  expect(await findCriu()).toMatchObject({ path: works.path, from: 'PATH' });
  const verdicts = await listCriu();
  expect(verdicts[0]).toMatchObject({ path: join(broken, 'criu'), from: 'environment', usable: false });
  expect(verdicts[0]?.usable === false && verdicts[0].error.message).toContain('broken on purpose');
  expect(verdicts[1]).toMatchObject({ path: works.path, from: 'PATH', usable: true, version: works.version });

  const error = await failure(findCriu({ criuPath: join(broken, 'criu') }));
  expect(error.code).toBe('CRIU_UNUSABLE');
  expect(error.message).toContain('broken on purpose');
});

test("Debian 12's CRIU 3.17.1 is told from one that works, by what it says itself", async () => {
  await using dir = await scratch();
  await run('apt-get', ['download', 'criu'], { cwd: dir.path });
  const [deb = ''] = (await readdir(dir.path)).filter((name) => name.endsWith('.deb'));
  await run('dpkg', ['-x', join(dir.path, deb), join(dir.path, 'root')]);
  const path = join(dir.path, 'root/usr/sbin/criu');
  const error = await failure(findCriu({ criuPath: path }));
  console.log(error.message);
  expect(error.code).toBe('CRIU_UNUSABLE');
  expect(error.facts.tried?.[0]?.path).toBe(path);
}, 60_000);
