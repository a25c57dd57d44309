import { mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
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
  expect(status, stderr).toBe(0);
  const { copies } = JSON.parse(stdout) as { copies: { pid: number; clone: { init: number } }[] };
  expect(copies).toHaveLength(2);
  for (const copy of copies) {
    expect(await ask(inside(copy, join(it.data, 's')))).toBe('2 original');
    process.kill(copy.clone.init, 'SIGKILL');
  }
  await expect.poll(() => leftovers(it), { timeout: 60_000 }).toEqual([]);
  expect(await stillframe('restore', it.dir, '--count', '2')).toMatchObject({ status: 2 });
});
