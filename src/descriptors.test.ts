import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { NativeError, openPipe, sendDescriptor } from './index.js';

let dir: string;
let path: string;
const children: ChildProcess[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'stillframe-test-descriptors-'));
  path = join(dir, 'socket');
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
  rmSync(dir, { recursive: true });
});

const openFds = (): string[] => readdirSync('/proc/self/fd').sort();

/**
 * A receiver as an OCI runtime's caller is one: it takes one descriptor, writes into it what came with it, and says how
 * many came.
 */
async function receiver({ backlog = 1, afterSeconds = 0 } = {}): Promise<{ said(): string; ended: Promise<unknown> }> {
  const python = `
import os, socket, sys, time
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(sys.argv[1])
listener.listen(${backlog})
print("listening", flush=True)
time.sleep(${afterSeconds})
for _ in range(${backlog + 2}):
    connection, _address = listener.accept()
    data, fds, flags, _address = socket.recv_fds(connection, 4096, 4)
    for fd in fds:
        os.write(fd, data)
    print(len(fds), flags & socket.MSG_CTRUNC, repr(connection.recv(1)), flush=True)
`;
  const child = spawn('python3', ['-c', python, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  let text = '';
  child.stdout.on('data', (data: Buffer) => (text += data.toString()));
  while (!text.includes('listening')) await sleep(5);
  return { said: () => text.replace('listening\n', ''), ended: once(child, 'exit') };
}

const read = (fd: number): string => {
  const buffer = Buffer.alloc(5000);
  return buffer.toString('utf8', 0, readSync(fd, buffer));
};

test('whoever listens gets the descriptor in one message, which says a name, and ours stays open', async () => {
  const { said } = await receiver();
  const pipe = openPipe();
  const before = openFds();
  try {
    await sendDescriptor(path, pipe.write);
    expect(read(pipe.read)).toBe('/dev/ptmx');
    await sendDescriptor(path, pipe.write, 'x'.repeat(4095));
    expect(read(pipe.read)).toBe('x'.repeat(4095));
    await sendDescriptor(path, pipe.write, Buffer.from([0, 255]));
    while (said().split('\n').length < 4) await sleep(5);
    expect(said()).toBe("1 0 b''\n".repeat(3));
    expect(openFds()).toEqual(before);
    writeSync(pipe.write, 'still ours');
    expect(read(pipe.read)).toContain('still ours');
  } finally {
    closeSync(pipe.read);
    closeSync(pipe.write);
  }
});

test('it waits for its turn where others wait to be accepted', async () => {
  const { said } = await receiver({ backlog: 3, afterSeconds: 0.5 });
  const fd = openSync('/dev/null', 'w');
  try {
    // One more than the queue takes.
    await Promise.all([1, 2, 3, 4, 5].map(() => sendDescriptor(path, fd)));
    while (said().split('\n').length < 6) await sleep(5);
    expect(said()).toBe("1 0 b''\n".repeat(5));
  } finally {
    closeSync(fd);
  }
});

test.each([
  ['ENOENT', () => sendDescriptor(path, 0)],
  [
    'EBADF',
    async () => {
      await receiver();
      await sendDescriptor(path, 4_000_000);
    },
  ],
  ['ENAMETOOLONG', () => sendDescriptor('/'.repeat(200), 0)],
  ['EINVAL', () => sendDescriptor(path, 0, '')],
  ['EINVAL', () => sendDescriptor(path, 0, 'x'.repeat(4096))],
  ['EINVAL', () => sendDescriptor(`${path}\0`, 0)],
])('%s is the cause of DESCRIPTOR_NOT_SENT, and nothing stays open', async (code, send) => {
  const before = openFds();
  const error: unknown = await send().catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(NativeError);
  expect(error).toMatchObject({
    code: 'DESCRIPTOR_NOT_SENT',
    facts: { fd: expect.any(Number) as number },
    cause: { code },
  });
  // The receiver's own output is a descriptor of ours.
  if (children.length === 0) expect(openFds()).toEqual(before);
});

test('a pipe of ours blocks, is inherited by nobody who is not given it, and serves as a standard stream', async () => {
  const pipe = openPipe();
  try {
    expect(fstatSync(pipe.read).isFIFO()).toBe(true);
    expect(fstatSync(pipe.read).ino).toBe(fstatSync(pipe.write).ino);
    for (const fd of [pipe.read, pipe.write]) {
      const flags = Number.parseInt(
        /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? '',
        8,
      );
      expect(flags & 0o4000, 'O_NONBLOCK').toBe(0);
      expect(flags & 0o2000000, 'O_CLOEXEC').toBe(0o2000000);
    }
    const child = spawn('sh', ['-c', 'readlink /proc/$$/fd/1'], { stdio: ['ignore', pipe.write, 'ignore'] });
    children.push(child);
    expect(read(pipe.read)).toBe(`pipe:[${fstatSync(pipe.read).ino}]\n`);
  } finally {
    closeSync(pipe.read);
    closeSync(pipe.write);
  }
});
