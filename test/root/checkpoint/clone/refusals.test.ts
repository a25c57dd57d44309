import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { checkpoint, prepare, restore, type RestoreOptions, type RestoreReport } from '../../../../src/index.js';
import { until } from '../../../fixtures/criu.js';
import { startDetached } from '../../../fixtures/detached.js';
import { program, run } from '../../../fixtures/program.js';
import { count, endsWithTest, inside, leftovers, original, scratchDir } from './copied.js';

test.each<[string, RestoreOptions['clone'], Partial<RestoreOptions>]>([
  ['another value', 'yes' as never, {}],
  ['an unknown option', { nett: 'own' } as never, {}],
  ['a network that is no path', { net: 'bridge' }, {}],
  ['a host name that is too long', { hostname: 'x'.repeat(65) }, {}],
  ['files that are replaced', true, { replaceFiles: 'keep' }],
  ['memory that comes later', true, { lazyPages: true }],
])('%s is refused before anything is read', async (_name, clone, others) => {
  await expect(restore({ archive: '/nowhere', clone, ...others })).rejects.toMatchObject({ code: 'BAD_OPTION' });
});

describe('a prepared directory', () => {
  test('is for copies only, and is looked at before it is used', { timeout: 120_000 }, async () => {
    const it = await original();
    const { stateDir } = it;
    const dir = join(it.scratch, 'warm');
    await prepare({ archive: it.archive, dir, stateDir });
    await expect(restore({ archive: dir, stateDir })).rejects.toMatchObject({ code: 'CLONE_NEEDED' });
    await expect(restore({ archive: it.scratch, clone: true, stateDir })).rejects.toMatchObject({
      code: 'NOT_PREPARED',
    });
    writeFileSync(join(dir, 'trees/0/parent'), 'another');
    await expect(restore({ archive: dir, clone: true, stateDir })).rejects.toMatchObject({ code: 'PREPARED_CHANGED' });
    expect(leftovers(it)).toEqual([]);
  });
});

describe('the place of a file tree', () => {
  test('that is a file is refused, and nothing is left', { timeout: 120_000 }, async () => {
    const it = await original();
    await it.kill();
    rmSync(it.data, { recursive: true });
    writeFileSync(it.data, 'mine');
    await expect(restore({ archive: it.archive, clone: true, stateDir: it.stateDir })).rejects.toMatchObject({
      code: 'CLONE_PLACE',
    });
    expect(leftovers(it)).toEqual([]);
  });

  test('that is missing is made, and stays empty', { timeout: 120_000 }, async () => {
    const it = await original();
    await it.kill();
    rmSync(it.data, { recursive: true });
    const copy = endsWithTest(await restore({ archive: it.archive, clone: true, stateDir: it.stateDir }));
    await until(() => count(inside(copy, join(it.data, 'parent'))) > 0, 'it writes');
    expect(existsSync(join(it.data, 'parent'))).toBe(false);
    process.kill(copy.clone!.init, 'SIGKILL');
    await expect.poll(() => leftovers(it), { timeout: 10_000 }).toEqual([]);
  });
});

test('without an overlay the files are copied', { timeout: 180_000 }, async () => {
  const it = await original();
  const { stateDir } = it;
  const dir = join(it.scratch, 'warm');
  await prepare({ archive: it.archive, dir, stateDir });
  // An overlay cannot have its upper directory on another.
  const place = scratchDir();
  for (const name of ['lower', 'upper', 'work', 'merged']) mkdirSync(join(place, name));
  const mounted = spawnSync(
    'mount',
    ['-t', 'overlay', '-o', 'lowerdir=lower,upperdir=upper,workdir=work', 'none', 'merged'],
    {
      cwd: place,
    },
  );
  expect(mounted.status).toBe(0);
  const merged = join(place, 'merged');
  onTestFinished(() => void spawnSync('umount', ['-l', merged]));
  const copy = endsWithTest(await restore({ archive: dir, clone: true, workDir: merged, stateDir }));
  expect(copy.clone).toMatchObject({ files: 'copy' });
  await until(() => count(inside(copy, join(it.data, 'parent'))) > 0, 'it writes');
  process.kill(copy.clone!.init, 'SIGKILL');
  await until(() => !existsSync(dirname(copy.cgroup!)), 'its cgroup is gone');
});

test('without the right to make namespaces it says so, and leaves nothing', { timeout: 120_000 }, async () => {
  const it = await original();
  const caps = ['--bounding-set=-sys_admin', '--inh-caps=-sys_admin'];
  const args = [...caps, process.execPath, program, 'restore', it.archive, '--clone', '--state-dir', it.stateDir];
  const { status, stderr } = await run('setpriv', args);
  expect(status).toBe(1);
  expect(stderr).toMatch(/Operation not permitted[^]*\[CRIU_UNUSABLE\]|CAP_SYS_ADMIN[^]*\[CLONE_FAILED\]/);
  expect(leftovers(it)).toEqual([]);
});

const server = `
import socket, sys
s = socket.socket()
s.bind(('127.0.0.1', int(sys.argv[1])))
s.listen()
while True:
    c, _ = s.accept()
    c.sendall(b'served')
    c.close()
`;

test('a port that is taken is named, and a network of its own has it free', { timeout: 180_000 }, async () => {
  const it = scratchDir();
  const [archive, stateDir] = [join(it, 'app.tar'), join(it, 'state')];
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  const { pid } = await startDetached('python3', ['-c', server, String(port)]);
  await until(
    () => spawnSync('ss', ['-ltnH', `sport = :${port}`], { encoding: 'utf8' }).stdout !== '',
    'it listens',
    120_000,
  );
  await checkpoint({ pid, adopt: true, output: archive, stateDir });
  const taken = restore({ archive, clone: true, stateDir });
  await expect(taken).rejects.toMatchObject({ code: 'PORTS_TAKEN', facts: { ports: [port] } });
  const copies: RestoreReport[] = [];
  for (let i = 0; i < 2; i++) copies.push(endsWithTest(await restore({ archive, clone: { net: 'own' }, stateDir })));
  for (const copy of copies) {
    const ask = `import socket; print(socket.create_connection(('127.0.0.1', ${port}), 5).recv(9).decode())`;
    const answer = spawnSync('nsenter', [`--net=/proc/${copy.pid}/ns/net`, 'python3', '-c', ask], { encoding: 'utf8' });
    expect(answer.stdout).toBe('served\n');
  }
});
