import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { chmod, chown, mkdir, readdir, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, expect, test, vi } from 'vitest';
import { CriuClient, CriuError, doubtCriu, findCriu, listCriu } from '../../../src/criu/index.js';
import { isVirtualMachine } from '../../../src/proc/virtual-machine.js';
import { scratch } from '../../fixtures/criu.js';
import { fakeCriu, packets } from '../../fixtures/fake-criu.js';

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

test('a check removes what a process left that was killed in the middle of one', async () => {
  const dirs = {
    stale: `stillframe-criu-check-${2 ** 22 - 1}-a`,
    young: `stillframe-criu-check-${2 ** 22 - 1}-b`,
    ours: `stillframe-criu-check-${process.pid}-c`,
  };
  const anHourAgo = Date.now() / 1000 - 3600;
  try {
    for (const name of Object.values(dirs)) {
      await mkdir(join(tmpdir(), name));
      await writeFile(join(tmpdir(), name, 'check.log'), '');
      if (name !== dirs.young) await utimes(join(tmpdir(), name), anHourAgo, anHourAgo);
    }
    const { path } = await findCriu();
    await using client = await CriuClient.start({ criuPath: path });
    await client.check();
    const left = (await readdir(tmpdir())).filter((name) => Object.values(dirs).includes(name));
    expect(left.sort()).toEqual([dirs.young, dirs.ours].sort());
  } finally {
    for (const name of Object.values(dirs)) await rm(join(tmpdir(), name), { recursive: true, force: true });
  }
});

test('a second search in the same process starts no CRIU', async () => {
  await findCriu();
  const start = vi.spyOn(CriuClient, 'start');
  await findCriu();
  expect(start).not.toHaveBeenCalled();
  start.mockRestore();
});

/** A working CRIU that notes each of its starts, and a state directory; `find` is what a new process would do. */
async function countedCriu(dir: string): Promise<{ path: string; stateDir: string; find: () => Promise<number> }> {
  const { path: works } = await findCriu();
  const [path, log, stateDir] = ['criu', 'log', 'state'].map((name) => join(dir, name)) as [string, string, string];
  await writeFile(path, `#!/bin/sh\necho started >>${log}\nexec ${works} "$@"\n`, { mode: 0o755 });
  await writeFile(log, '');
  const find = async (): Promise<number> => {
    vi.resetModules();
    const fresh = await import('../../../src/criu/index.js');
    const before = readFileSync(log, 'utf8').length;
    expect(await fresh.findCriu({ criuPath: path, stateDir })).toMatchObject({ path, from: 'option' });
    return (readFileSync(log, 'utf8').length - before) / 'started\n'.length;
  };
  return { path, stateDir, find };
}

test('what has worked is not started by another process with the same state directory, until it changes', async () => {
  await using dir = await scratch();
  const { path, stateDir, find } = await countedCriu(dir.path);
  expect(await find()).toBe(1);
  expect([await find(), await find()]).toEqual([0, 0]);
  expect((await stat(stateDir)).mode & 0o777).toBe(0o700);
  expect((await stat(join(stateDir, 'criu.json'))).mode & 0o777).toBe(0o600);
  expect(await findCriu({ criuPath: path, stateDir })).toEqual(await findCriu({ criuPath: path }));
  await utimes(path, 1, 1);
  expect([await find(), await find()]).toEqual([1, 0]);
});

test('what is remembered of a CRIU is not believed after a reboot, once in doubt, damaged, or open to others', async () => {
  await using dir = await scratch();
  const { stateDir, find } = await countedCriu(dir.path);
  const memory = join(stateDir, 'criu.json');
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  const edit = (change: (text: string) => string) => async (): Promise<void> =>
    writeFile(memory, change(readFileSync(memory, 'utf8')));
  for (const [what, act] of Object.entries({
    'another boot': edit((text) => text.replaceAll(bootId, bootId.replace(/[0-9a-f]/g, '0'))),
    'a version that is too old': edit((text) => text.replaceAll(/"versionNumber":\d+/g, '"versionNumber":31701')),
    'no number': edit((text) => text.replaceAll(/"versionNumber":\d+/g, '"versionNumber":"40101"')),
    'no JSON': edit((text) => text.slice(0, -1)),
    'another format': edit((text) => text.replace('"format":1', '"format":2')),
    doubt: () => doubtCriu(stateDir),
    'readable for others': () => chmod(memory, 0o644),
    'somebody else': () => chown(memory, 65534, 65534),
    'a link': async () => {
      await rename(memory, join(dir.path, 'elsewhere'));
      await symlink(join(dir.path, 'elsewhere'), memory);
    },
  })) {
    await rm(memory, { force: true });
    expect(await find(), what).toBe(1);
    await act();
    expect(await find(), what).toBe(1);
  }
  expect(await find()).toBe(0);
  await chmod(stateDir, 0o777);
  expect([await find(), await find()]).toEqual([1, 1]);
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
  vi.stubEnv('PATH', `${dirname(works.path)}:${process.env.PATH ?? ''}`);
  expect(await findCriu()).toMatchObject({ path: works.path, from: 'PATH' });
  const verdicts = await listCriu();
  expect(verdicts[0]).toMatchObject({ path: join(broken, 'criu'), from: 'environment', usable: false });
  expect(verdicts[0]?.usable === false && verdicts[0].error.message).toContain('broken on purpose');
  expect(verdicts[1]).toMatchObject({ path: works.path, from: 'PATH', usable: true, version: works.version });
  expect(verdicts[1]?.usable === true && 'memCompression' in verdicts[1].features).toBe(works.versionNumber >= 40300);

  const error = await failure(findCriu({ criuPath: join(broken, 'criu') }));
  expect(error.code).toBe('CRIU_UNUSABLE');
  expect(error.message).toContain('broken on purpose');
});

/** Unpacks the system's own criu package with the libraries it lacks here, and gives a command that runs it. */
async function systemCriu(dir: string): Promise<string> {
  const archives = join(dir, 'archives');
  await mkdir(join(archives, 'partial'), { recursive: true });
  const apt = ['-o', `Dir::Cache::archives=${archives}`, '-o', 'Debug::NoLocking=1', '-o', 'APT::Sandbox::User='];
  await run('apt-get', [...apt, '-y', '--no-install-recommends', '--reinstall', '--download-only', 'install', 'criu']);
  const debs = (await readdir(archives)).filter((name) => name.endsWith('.deb'));
  for (const deb of debs) await run('dpkg', ['-x', join(archives, deb), join(dir, 'root')]);
  const { stdout: multiarch } = await run('gcc', ['-print-multiarch']);
  const libraries = ['usr/lib', 'lib'].map((path) => join(dir, 'root', path, multiarch.trim())).join(':');
  const command = join(dir, 'criu');
  await writeFile(command, `#!/bin/sh\nLD_LIBRARY_PATH=${libraries} exec ${dir}/root/usr/sbin/criu "$@"\n`);
  await chmod(command, 0o755);
  return command;
}

const isDebian12 = /^VERSION_ID="12"/m.test(readFileSync('/etc/os-release', 'utf8'));

/** An emulated machine has none, nor an archive to take packages from. */
const hasNetwork = readFileSync('/proc/net/route', 'latin1')
  .split('\n')
  .some((line) => line.split('\t')[1] === '00000000');

test.runIf(isDebian12 && hasNetwork)(
  "Debian 12's CRIU 3.17.1, which has no `networkLock: 'skip'`, is passed over as too old, with its version",
  async () => {
    await using dir = await scratch();
    const path = await systemCriu(dir.path);
    const works = await findCriu();
    vi.stubEnv('STILLFRAME_CRIU', path);
    vi.stubEnv('PATH', `${dirname(works.path)}:${process.env.PATH ?? ''}`);
    expect((await findCriu()).path).toBe(works.path);
    const [verdict] = await listCriu();
    expect(verdict).toMatchObject({ path, usable: false, version: '3.17.1', versionNumber: 31701 });
    expect(verdict?.usable === false && verdict.error).toMatchObject({
      code: 'CRIU_TOO_OLD',
      facts: { since: '3.19' },
    });
  },
  300_000,
);

test('one before 4.2 is started without hardware breakpoints in a virtual machine, once its version is known', async () => {
  vi.stubEnv('CRIU_FAULT', undefined);
  await using dir = await scratch();
  const said = join(dir.path, 'said');
  const body = `open(${JSON.stringify(said)}, 'w').write(os.environ.get('CRIU_FAULT', 'none'))\ns.recv(9999)\ns.send(${packets.version})`;
  const criuPath = await fakeCriu(dir.path, body);
  const fault = async (): Promise<string> => {
    await using client = await CriuClient.start({ criuPath });
    expect((await client.version()).text).toBe('4.1');
    return readFileSync(said, 'latin1');
  };
  expect(await fault()).toBe('none');
  await failure(findCriu({ criuPath }));
  expect(await fault()).toBe(isVirtualMachine() ? '130' : 'none');
  vi.stubEnv('CRIU_FAULT', '2');
  expect(await fault()).toBe('2');
});
