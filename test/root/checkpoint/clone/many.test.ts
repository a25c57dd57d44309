import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { checkpoint, prepare, restore, restoreCopies } from '../../../../src/index.js';
import { until } from '../../../fixtures/criu.js';
import { startDetached } from '../../../fixtures/detached.js';
import { stillframe } from '../../../fixtures/program.js';
import { endsWithTest, inside, leftovers, scratchDir, type Original } from './copied.js';

/** Answers what it has in memory, and what is in its file. */
const script = `
import os, signal, socket, sys
data = sys.argv[1]
asked = 0
def seed(*_):
    global asked
    asked = 1000
signal.signal(signal.SIGHUP, seed)
s = socket.socket(socket.AF_UNIX)
s.bind(data + '/s')
s.listen()
open(data + '/ready', 'w').close()
while True:
    c, _ = s.accept()
    asked += 1
    c.sendall(b'%d %s' % (asked, open(data + '/name', 'rb').read()))
    c.close()
`;

async function server(): Promise<Original & { dir: string }> {
  const scratch = scratchDir();
  const [data, archive, stateDir, dir] = ['data', 'app.tar', 'state', 'warm'].map((name) => join(scratch, name)) as [
    string,
    string,
    string,
    string,
  ];
  mkdirSync(data);
  writeFileSync(join(data, 'name'), 'original');
  const { pid, kill } = await startDetached('python3', ['-c', script, data]);
  const isReady = (): boolean => {
    try {
      return readFileSync(join(data, 'ready')) !== undefined;
    } catch {
      return false;
    }
  };
  await until(isReady, 'it listens', 120_000);
  expect(await ask(join(data, 's'))).toBe('1 original');
  await checkpoint({ pid, adopt: true, files: [{ path: data, name: 'data' }], output: archive, stateDir });
  await prepare({ archive, dir, stateDir });
  return { pid, scratch, data, archive, stateDir, dir, kill };
}

async function ask(path: string): Promise<string> {
  const socket = connect(path);
  let answer = '';
  socket.setEncoding('utf8').on('data', (text: string) => (answer += text));
  await once(socket, 'close');
  return answer;
}

test('ten copies of a server answer, each from its own memory, beside the original', { timeout: 400_000 }, async () => {
  const it = await server();
  const { copies, failed } = await restoreCopies({
    archive: it.dir,
    count: 10,
    clone: { net: 'own' },
    stateDir: it.stateDir,
  });
  for (const copy of copies) endsWithTest(copy);
  expect(failed).toEqual([]);
  expect(new Set(copies.map(({ pid }) => readlinkSync(`/proc/${pid}/ns/pid`))).size).toBe(10);
  for (const [i, copy] of copies.entries()) {
    const path = inside(copy, join(it.data, 's'));
    for (let asked = 2; asked < 4 + i; asked++) expect(await ask(path)).toBe(`${asked} original`);
  }
  expect(await ask(join(it.data, 's'))).toBe('2 original');
  for (const { clone } of copies) process.kill(clone!.init, 'SIGKILL');
  await expect.poll(() => leftovers(it), { timeout: 60_000 }).toEqual([]);
});

test('what is changed before it runs is there when it runs', { timeout: 200_000 }, async () => {
  const it = await server();
  const copy = endsWithTest(
    await restore({
      archive: it.dir,
      clone: true,
      stateDir: it.stateDir,
      onBeforeResume: ({ pid, pids, root }) => {
        expect(pids).toEqual([pid]);
        writeFileSync(join(root, it.data, 'name'), 'copy');
        process.kill(pid, 'SIGHUP');
      },
    }),
  );
  expect(await ask(inside(copy, join(it.data, 's')))).toBe('1001 copy');
  expect(await ask(join(it.data, 's'))).toBe('2 original');
  process.kill(copy.clone!.init, 'SIGKILL');
  await copy.ended();

  const refused = restore({
    archive: it.dir,
    clone: true,
    stateDir: it.stateDir,
    onBeforeResume: () => Promise.reject(new Error('not so')),
  });
  await expect(refused).rejects.toThrow('not so');
  await expect.poll(() => leftovers(it), { timeout: 60_000 }).toEqual([]);
});

test('the command makes several, and tells each', { timeout: 200_000 }, async () => {
  const it = await server();
  const { status, stdout, stderr } = await stillframe(
    ...['restore', it.dir, '--clone', '--net', 'own', '--count', '2', '--json', '--state-dir', it.stateDir],
  );
  const { copies } = JSON.parse(stdout) as { copies: { pid: number; clone: { init: number } }[] };
  const end = (): void => copies.splice(0).forEach(({ clone }) => process.kill(clone.init, 'SIGKILL'));
  onTestFinished(end);
  expect(status, stderr).toBe(0);
  expect(copies).toHaveLength(2);
  for (const copy of copies) expect(await ask(inside(copy, join(it.data, 's')))).toBe('2 original');
  end();
  await expect.poll(() => leftovers(it), { timeout: 60_000 }).toEqual([]);
  expect(await stillframe('restore', it.dir, '--count', '2')).toMatchObject({ status: 2 });
});

const listener = `
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
s.bind((sys.argv[1], int(sys.argv[2])))
s.listen()
asked = 0
while True:
    c, _ = s.accept()
    asked += 1
    c.sendall(b'%d' % asked)
    c.close()
`;

async function answerOf(host: string, port: number): Promise<string> {
  const socket = connect({ host, port });
  let answer = '';
  socket.setEncoding('utf8').on('data', (text: string) => (answer += text));
  await once(socket, 'close');
  return answer;
}

/** A server that listens there, checkpointed and prepared; it runs on. */
async function listening(host: string, port: number): Promise<{ archive: string; dir: string; stateDir: string }> {
  const scratch = scratchDir();
  const [archive, dir, stateDir] = [join(scratch, 'app.tar'), join(scratch, 'warm'), join(scratch, 'state')];
  const { pid } = await startDetached('python3', ['-c', listener, host, String(port)]);
  const listens = (): boolean =>
    spawnSync('ss', ['-ltnpH', `sport = :${port}`], { encoding: 'utf8' }).stdout.includes(`pid=${pid},`);
  await until(listens, 'it listens', 120_000);
  await checkpoint({ pid, adopt: true, output: archive, stateDir });
  await prepare({ archive, dir, stateDir });
  return { archive, dir, stateDir };
}

async function freePort(host: string): Promise<number> {
  const probe = createServer().listen(0, host);
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  return port;
}

test('a server on one address comes back on others, beside the original', { timeout: 300_000 }, async () => {
  const host = '127.0.0.1';
  const port = await freePort(host);
  const { archive, dir, stateDir } = await listening(host, port);
  for (const [from, by] of [
    [archive, '127.0.0.2'],
    [dir, '127.255.255.254'],
    [dir, '127.0.0.3'],
  ] as const) {
    endsWithTest(await restore({ archive: from, clone: true, replaceAddresses: { [host]: by }, stateDir }));
    expect(await answerOf(by, port), by).toBe('1');
  }
  expect(await answerOf(host, port)).toBe('1');
  const wrong = restore({ archive: dir, clone: true, replaceAddresses: { '10.9.8.7': '10.9.8.6' }, stateDir });
  await expect(wrong).rejects.toMatchObject({ code: 'BAD_OPTION' });
});

test('one of IPv6 does, in a network that is there already', { timeout: 300_000 }, async () => {
  const port = await freePort('::1');
  const { dir, stateDir } = await listening('::1', port);
  const { pid } = await startDetached('unshare', ['--net', 'sleep', '1000']);
  const net = `/proc/${pid}/ns/net`;
  await until(() => readlinkSync(net) !== readlinkSync('/proc/self/ns/net'), 'the network is there', 120_000);
  const inNet = (...command: string[]): string =>
    spawnSync('nsenter', [`--net=${net}`, ...command], { encoding: 'utf8' }).stdout;
  inNet('ip', 'link', 'set', 'lo', 'up');
  inNet('ip', '-6', 'addr', 'add', 'fd00::2/128', 'dev', 'lo', 'nodad');
  endsWithTest(await restore({ archive: dir, clone: { net }, replaceAddresses: { '::1': 'fd00::2' }, stateDir }));
  expect(inNet('ss', '-ltnH')).toContain(`[fd00::2]:${port}`);
});

test.each<Record<string, string>>([{ '127.0.0.1': '::1' }, { localhost: '127.0.0.2' }, { '1.2.3': '1.2.3.4' }])(
  'the addresses %o are refused',
  async (replaceAddresses) => {
    const refused = restore({ archive: '/nowhere', replaceAddresses });
    await expect(refused).rejects.toMatchObject({ code: 'BAD_OPTION' });
  },
);
