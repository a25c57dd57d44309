import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { PhaseEvent } from '../../../src/checkpoint/events/phases.js';
import { checkpointContainer, restoreContainer } from '../../../src/container/index.js';
import { Bundle, makeImage, need, newId, RuncContainer } from '../../fixtures/container.js';
import { until } from '../../fixtures/processes.js';

let scratch: string;
let image: string;
beforeAll(() => {
  need('redis-server', 'redis-cli', 'ldd', 'runc');
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
  for (const program of ['redis-server', 'redis-cli']) addProgram(program);
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** The program, with the libraries that it is linked with, where it looks for them. */
function addProgram(name: string): void {
  const program = realpathSync(spawnSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).stdout.trim());
  copyFileSync(program, join(image, 'bin', name));
  for (const [, library] of spawnSync('ldd', [program], { encoding: 'utf8' }).stdout.matchAll(/(\/\S+)/g)) {
    mkdirSync(dirname(join(image, library as string)), { recursive: true });
    copyFileSync(library as string, join(image, library as string));
  }
}

/** Clients that count: each writes the next number, and notes it only when the server has said OK. */
const CLIENTS = ['one', 'two', 'three'];
const client = (key: string): string =>
  `(i=0; while :; do i=$((i+1)); [ "$(redis-cli -s /data/socket SET ${key} $i)" = OK ] || exit 1; echo $i > /data/${key}.fresh; mv /data/${key}.fresh /data/${key}; done) &`;
const ARGS = [
  'sh',
  '-c',
  `redis-server --port 0 --unixsocket /data/socket --dir /data --appendonly yes --save '' & while ! [ -S /data/socket ]; do sleep 0.1; done; ${CLIENTS.map(client).join(' ')} wait`,
];

/** What each client had been told was written. */
function acknowledged(root: string): number[] {
  return CLIENTS.map((key) =>
    existsSync(join(root, 'data', key)) ? Number(readFileSync(join(root, 'data', key), 'utf8')) : 0,
  );
}

async function get(path: string, key: string): Promise<number> {
  const socket = connect(path);
  const answer = await new Promise<string>((resolve, reject) => {
    socket.once('error', reject);
    socket.once('data', (data) => resolve(data.toString()));
    socket.write(`GET ${key}\r\n`);
  }).finally(() => socket.destroy());
  return Number(answer.split('\r\n')[1]);
}

it('has every write that redis had acknowledged before the freeze, and goes on serving its clients', async () => {
  const archive = join(scratch, 'redis.tar');
  await using bundle = new Bundle(image, { args: ARGS });
  await using container = await RuncContainer.run(bundle);
  expect(await until(() => acknowledged(bundle.rootfs).every((n) => n > 20), 20_000)).toBe(true);

  let before: number[] = [];
  const onProgress = ({ phase, at }: PhaseEvent): void => {
    if (phase === 'freeze' && at === 'start') before = acknowledged(bundle.rootfs);
  };
  // These clients fork and connect all the time, and CRIU dumps no unix connection that was made and written to but not
  // accepted yet. The container runs on then, and another instant will do.
  await checkpointContainer({
    runc: container.id,
    stateRoot: container.stateRoot,
    output: archive,
    stop: true,
    retries: 20,
    onProgress,
  });
  await container.end();
  expect(before.every((n) => n > 20)).toBe(true);

  await using second = new Bundle(image);
  await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
  await restoreContainer({ runc: restored.id, stateRoot: restored.stateRoot, bundle: second.dir, archive });
  // Through the container's own view of its root: a socket on an overlay is another inode on the host.
  const path = `/proc/${(await restored.state()).pid}/root/data/socket`;
  const values = await Promise.all(CLIENTS.map((key) => get(path, key)));
  values.forEach((value, i) => expect(value).toBeGreaterThanOrEqual(before[i] as number));
  expect(await until(() => acknowledged(second.rootfs).every((n, i) => n > (values[i] as number) + 5), 20_000)).toBe(
    true,
  );
});
