import { closeSync, fstatSync, openSync, readdirSync, readFileSync, readSync, writeSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { native } from '../../../src/native.js';
import { CriuClient, criuErrorOf, findCriu, type CriuNotification } from '../../../src/criu/index.js';
import { notificationScripts } from '../../../src/criu/rpc/notification.js';
import { PacketSocket } from '../../../src/criu/process/packet-socket.js';
import { failure, scratch } from '../../fixtures/criu.js';

let criuPath: string;
beforeAll(async () => {
  criuPath = (await findCriu()).path;
});

const openFds = (): number => readdirSync('/proc/self/fd').length;

function pair(maxBytes = 1 << 20): [PacketSocket, PacketSocket] {
  const [ours, theirs] = native().socketpairSeqpacket();
  return [new PacketSocket(ours, maxBytes), new PacketSocket(theirs, maxBytes)];
}

describe('a packet socket', () => {
  test('keeps packets of any length whole, and in order', async () => {
    const [a, b] = pair();
    const packets = [1, 40_000, 200_000, 2].map((length) => Buffer.alloc(length, length));
    const sent = (async () => {
      for (const packet of packets) await a.send(packet);
      a.close();
    })();
    for (const packet of packets) expect((await b.receive())?.data.equals(packet)).toBe(true);
    expect(await b.receive()).toBeUndefined();
    await sent;
    b.close();
  });

  test('waits for room when the peer does not read, without blocking', async () => {
    const [a, b] = pair();
    let sent = 0;
    const writer = (async () => {
      for (; sent < 1000; sent++) await a.send(Buffer.alloc(10_000, sent % 251));
    })();
    await sleep(20);
    expect(sent).toBeLessThan(1000);
    for (let i = 0; i < 1000; i++) expect((await b.receive())?.data[0]).toBe(i % 251);
    await writer;
    a.close();
    b.close();
  });

  test('passes descriptors that are close-on-exec and refer to the same file', async () => {
    await using dir = await scratch();
    const before = openFds();
    const [a, b] = pair();
    const fd = openSync(join(dir.path, 'file'), 'w+');
    await a.send(Buffer.from('x'), [fd, fd]);
    const packet = await b.receive();
    expect(packet?.fds).toHaveLength(2);
    const [first = -1] = packet?.fds ?? [];
    writeSync(fd, 'hello');
    const text = Buffer.alloc(5);
    readSync(first, text, 0, 5, 0);
    expect(text.toString()).toBe('hello');
    expect(fstatSync(first).ino).toBe(fstatSync(fd).ino);
    expect(
      Number.parseInt(/^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${first}`, 'utf8'))?.[1] ?? '0', 8) &
        0o2000000,
    ).not.toBe(0);
    for (const received of packet?.fds ?? []) closeSync(received);
    closeSync(fd);
    a.close();
    b.close();
    expect(openFds()).toBe(before);
  });

  test('refuses a packet over its limit, and closes the descriptors of packets nobody took', async () => {
    const before = openFds();
    const [a, b] = pair(100);
    const fd = openSync('/dev/null', 'r');
    await a.send(Buffer.alloc(101), [fd]);
    await expect(b.receive()).rejects.toMatchObject({ code: 'EMSGSIZE', syscall: 'recvmsg' });
    await expect(a.send(Buffer.alloc(10 << 20))).rejects.toMatchObject({ code: 'EMSGSIZE', syscall: 'sendmsg' });
    b.close();
    // The first says that the packet was never read, the second that nobody is there.
    await expect(a.send(Buffer.from('x'))).rejects.toMatchObject({ code: 'ECONNRESET' });
    await expect(a.send(Buffer.from('x'))).rejects.toMatchObject({ code: 'EPIPE' });
    a.close();
    closeSync(fd);
    expect(openFds()).toBe(before);
  });

  test('gives what the peer wrote before it closed without reading', async () => {
    const [a, b] = pair();
    await a.send(Buffer.from('never read'));
    await b.send(Buffer.from('last words'));
    b.close();
    expect((await a.receive())?.data.toString()).toBe('last words');
    expect(await a.receive()).toBeUndefined();
    a.close();
  });

  test('ends a wait when its signal is aborted, and when it is closed', async () => {
    const before = openFds();
    const [a, b] = pair();
    const reason = new Error('enough');
    const controller = new AbortController();
    const first = a.receive(controller);
    setTimeout(() => controller.abort(reason), 5);
    await expect(first).rejects.toBe(reason);
    const second = a.receive();
    setTimeout(() => a.close(), 5);
    await expect(second).rejects.toMatchObject({ code: 'EBADF' });
    expect(await b.receive()).toBeUndefined();
    b.close();
    expect(openFds()).toBe(before);
  });
});

describe('a session', () => {
  test('answers VERSION again and again, and tells what the kernel can do', async () => {
    await using client = await CriuClient.start({ criuPath });
    const first = await client.version();
    expect(first.text).toMatch(/^\d+\.\d+/);
    for (let i = 0; i < 100; i++) expect(await client.version()).toEqual(first);
    const features = await client.featureCheck({ memTrack: true, lazyPages: true });
    expect(Object.keys(features).sort()).toEqual(['lazyPages', 'memTrack']);
    const pagemap = readFileSync('/proc/self/smaps', 'utf8');
    // VmFlags has "sd" where the kernel tracks soft-dirty pages.
    expect(features.memTrack).toBe(/VmFlags:.*\bsd\b/.test(pagemap));
    expect(await client.featureCheck({})).toEqual({});
    // Of memory CRIU without LZ4 cannot compress any, and one before 4.3 does not know the question.
    expect(await client.featureCheck({ pidfdStore: true, memCompression: true, lazyPages: false })).toEqual({
      pidfdStore: true,
      memCompression: expect.any(Boolean) as boolean,
    });
  });

  test('has its process in a session of its own, and reaps it', async () => {
    const client = await CriuClient.start({ criuPath });
    const { pid } = client;
    await client.version();
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ');
    expect([stat[4], stat[5]]).toEqual([String(pid), String(pid)]);
    await client.close();
    await client.close();
    expect(() => readFileSync(`/proc/${pid}/stat`)).toThrow('ENOENT');
  });

  test('is over after CHECK and refuses what comes then', async () => {
    await using client = await CriuClient.start({ criuPath });
    await client.check();
    expect((await failure(client.version())).code).toBe('CRIU_SESSION_ENDED');
  });

  test('does one thing at a time', async () => {
    await using client = await CriuClient.start({ criuPath });
    const first = client.version();
    expect((await failure(client.version())).code).toBe('CRIU_BUSY');
    await first;
    await client.version();
  });

  test('closed in the middle of a request is CRIU_ABORTED', async () => {
    const client = await CriuClient.start({ criuPath });
    const request = failure(client.featureCheck({ lazyPages: true }));
    await client.close();
    expect((await request).code).toBe('CRIU_ABORTED');
  });

  test('carries a request of 100 KB', async () => {
    await using work = await scratch();
    await using client = await CriuClient.start({ criuPath });
    const external = Array.from({ length: 2000 }, (_, i) => `mnt[/${'x'.repeat(40)}${i}]:key${i}`);
    // Only a CRIU that has read all of it can find out that there is no such process.
    const error = await failure(client.dump({ pid: 4_000_000, imagesDir: work.path, logLevel: 4, external }));
    expect(error.facts.crErrnoName).toBe('ESRCH');
  });

  test('leaves no descriptor and no process behind, 100 times', async () => {
    const warm = await CriuClient.start({ criuPath });
    await warm.close();
    await sleep(50);
    const before = openFds();
    const pids: number[] = [];
    for (let i = 0; i < 100; i++) {
      await using client = await CriuClient.start({ criuPath });
      pids.push(client.pid);
      await client.version();
    }
    await sleep(50);
    expect(openFds()).toBe(before);
    expect(pids.filter((pid) => readdirSync('/proc').includes(String(pid)))).toEqual([]);
  });
});

describe('a peer that is not CRIU', () => {
  async function fake(dir: string, body: string): Promise<string> {
    const path = join(dir, 'criu');
    await writeFile(
      path,
      `#!/usr/bin/python3\nimport socket, os, sys, time, signal\ns = socket.socket(fileno=int(sys.argv[2]))\n${body}\n`,
    );
    await chmod(path, 0o755);
    return path;
  }

  test.each([
    ['sends garbage', 's.recv(9999); s.send(b"\\xff" * 50); time.sleep(60)', 'CRIU_PROTOCOL'],
    [
      'sends a message without its required fields',
      's.recv(9999); s.send(b"\\x38\\x05"); time.sleep(60)',
      'CRIU_PROTOCOL',
    ],
    [
      'sends a message of an unknown type',
      's.recv(9999); s.send(b"\\x08\\x63\\x10\\x01"); time.sleep(60)',
      'CRIU_PROTOCOL',
    ],
    ['answers another question', 's.recv(9999); s.send(b"\\x08\\x01\\x10\\x01"); time.sleep(60)', 'CRIU_PROTOCOL'],
    [
      'answers without what was asked for',
      's.recv(9999); s.send(b"\\x08\\x0a\\x10\\x01"); time.sleep(60)',
      'CRIU_PROTOCOL',
    ],
    ['closes without a word', 's.recv(9999); s.close(); time.sleep(60)', 'CRIU_DIED'],
    ['exits at once', 'sys.stderr.write("no such kernel\\n"); sys.exit(3)', 'CRIU_DIED'],
    ['is killed', 's.recv(9999); os.kill(os.getpid(), signal.SIGSEGV)', 'CRIU_DIED'],
    [
      'leaves a child with its socket',
      's.recv(9999)\nif os.fork() == 0: time.sleep(3); sys.exit()\nsys.exit(4)',
      'CRIU_DIED',
    ],
    ['never answers', 'signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)', 'CRIU_TIMEOUT'],
    ['floods', 's.recv(9999)\nwhile True: s.send(b"\\x08\\x06\\x10\\x01\\x2a\\x05\\x0a\\x03abc")', 'CRIU_TIMEOUT'],
  ])('that %s gives a typed error and is reaped', async (_, body, code) => {
    await using dir = await scratch();
    const before = openFds();
    const client = await CriuClient.start({ criuPath: await fake(dir.path, body), graceMs: 100 });
    const error = await failure(client.version({ timeoutMs: code === 'CRIU_TIMEOUT' ? 500 : 15_000 }));
    expect(error.code).toBe(code);
    expect(error.facts.request).toBe('VERSION');
    await client.close();
    expect(() => process.kill(client.pid, 0)).toThrow('ESRCH');
    expect(openFds()).toBe(before);
  });

  test('that exits leaves its status and its stderr in the error', async () => {
    await using dir = await scratch();
    await using client = await CriuClient.start({
      criuPath: await fake(dir.path, 'sys.stderr.write("x" * 100000 + "no such kernel\\n"); sys.exit(3)'),
    });
    const error = await failure(client.version());
    expect(error.facts.exitCode).toBe(3);
    expect(error.facts.stderr).toMatch(/no such kernel\n$/);
    expect(error.facts.stderr?.length).toBeLessThanOrEqual(16 * 1024);
  });

  test('that sends descriptors nobody asked for does not leak them', async () => {
    await using dir = await scratch();
    const before = openFds();
    const body = 's.recv(9999)\nsocket.send_fds(s, [b"\\xff" * 9], [0, 1, 2])\ntime.sleep(60)';
    const client = await CriuClient.start({ criuPath: await fake(dir.path, body), graceMs: 100 });
    expect((await failure(client.version())).code).toBe('CRIU_PROTOCOL');
    await client.close();
    expect(openFds()).toBe(before);
  });

  test('that does not read, ends, and leaves a child with its socket, is seen to be gone', async () => {
    await using dir = await scratch();
    // More answers than there is room for.
    const body =
      's.recv(9999)\nif os.fork() == 0: time.sleep(10); os._exit(0)\nfor _ in range(400): s.send(b"\\x08\\x06\\x10\\x01\\x2a\\x05\\x0a\\x03abc")\ntime.sleep(0.5); os._exit(4)';
    await using client = await CriuClient.start({ criuPath: await fake(dir.path, body), graceMs: 100 });
    expect(await failure(client.version({ timeoutMs: 8000 }))).toMatchObject({
      code: 'CRIU_DIED',
      facts: { exitCode: 4 },
    });
  });

  test('that has no path is refused', async () => {
    for (const path of ['', undefined as unknown as string])
      expect((await failure(CriuClient.start({ criuPath: path }))).facts.option).toBe('criuPath');
  });

  test('that sends an empty packet with descriptors is taken for gone, and they are not leaked', async () => {
    await using dir = await scratch();
    const before = openFds();
    const client = await CriuClient.start({
      criuPath: await fake(dir.path, 's.recv(9999)\nsocket.send_fds(s, [b""], [0, 1, 2])\ntime.sleep(60)'),
      graceMs: 0,
    });
    expect((await failure(client.version())).code).toBe('CRIU_DIED');
    await client.close();
    expect(openFds()).toBe(before);
  });

  test.each(notificationScripts)('that sends %s is answered by the callback, with yes or no', async (script) => {
    await using dir = await scratch();
    // VERSION 4.3; then DUMP: the notification. It ends with 7 when the answer is a yes, with 8 when it is a no.
    const body = [
      's.recv(9999); s.send(bytes([8, 10, 16, 1, 82, 4, 8, 4, 16, 3])); s.recv(99999)',
      `name = b"${script}"`,
      's.send(bytes([8, 6, 16, 1, 42, len(name) + 4, 10, len(name)]) + name + bytes([16, 77]))',
      'sys.exit(7 if bytes([24, 1]) in s.recv(9999) else 8)',
    ].join('\n');
    const path = await fake(dir.path, body);
    for (const refuses of [false, true]) {
      const seen: CriuNotification[] = [];
      await using client = await CriuClient.start({ criuPath: path });
      const refusal = new Error('not now');
      const onNotify = (notification: CriuNotification): void => {
        seen.push(notification);
        if (refuses) throw refusal;
      };
      const error: unknown = await client
        .dump({ pid: 1 << 21, imagesDir: dir.path }, { onNotify })
        .catch((reason: unknown) => reason);
      expect(seen).toEqual([{ script, pid: 77 }]);
      expect(refuses ? criuErrorOf(error) : error).toMatchObject({
        code: 'CRIU_DIED',
        facts: { request: 'DUMP', exitCode: refuses ? 8 : 7 },
      });
      if (refuses) expect(error).toBe(refusal);
    }
  });

  test('gets the descriptors that the client was given, at their numbers', async () => {
    await using dir = await scratch();
    const fd = openSync(join(dir.path, 'mark'), 'w');
    const body = 'sys.stderr.write(os.readlink("/proc/self/fd/4")); sys.stderr.flush(); sys.exit(5)';
    await using client = await CriuClient.start({ criuPath: await fake(dir.path, body), fds: [fd] });
    const error = await failure(client.version());
    expect(error.facts.stderr).toBe(join(dir.path, 'mark'));
    closeSync(fd);
  });
});
