import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, readSync, writeFileSync } from 'node:fs';
import { mkdir, rmdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { native } from '../../../src/native.js';
import { until } from '../../fixtures/criu.js';

const addon = resolve('build/Release/stillframe.node');

/** Runs a script in a process of its own; what must not happen there ends it. Long: an emulated machine is slow. */
function runScript(script: string): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(
    process.execPath,
    ['--expose-gc', '-e', `const native = require(${JSON.stringify(addon)});\n${script}`],
    { encoding: 'utf8', timeout: 240_000 },
  );
}

test('a frozen cgroup is told by POLLPRI within milliseconds, once for each change that is read', async () => {
  const hierarchy = readdirSync('/sys/fs/cgroup').includes('unified') ? '/sys/fs/cgroup/unified' : '/sys/fs/cgroup';
  const cgroup = `${hierarchy}/stillframe-test-poll-${process.pid}`;
  await mkdir(cgroup);
  const fd = openSync(`${cgroup}/cgroup.events`, 'r');
  try {
    const seen: string[] = [];
    const text = Buffer.alloc(256);
    const read = (): string => text.toString('latin1', 0, readSync(fd, text, 0, text.length, 0));
    read();
    const poll = new (native().Poll)(fd, 'priority', (errno) =>
      seen.push(`${errno} ${/frozen (\d)/.exec(read())?.[1] ?? ''}`),
    );
    writeFileSync(`${cgroup}/cgroup.freeze`, '1');
    await until(() => seen.length > 0, 'the freeze is seen');
    writeFileSync(`${cgroup}/cgroup.freeze`, '0');
    await until(() => seen.length > 1, 'the thaw is seen');
    await sleep(50);
    expect(seen).toEqual(['0 1', '0 0']);
    poll.close();
    writeFileSync(`${cgroup}/cgroup.freeze`, '1');
    await sleep(50);
    expect(seen).toHaveLength(2);
    writeFileSync(`${cgroup}/cgroup.freeze`, '0');
  } finally {
    closeSync(fd);
    await rmdir(cgroup);
  }
});

test('promise jobs of a callback run before the next event', () => {
  const { stdout } = runScript(`
    const [a, b] = native.socketpairSeqpacket();
    let events = 0;
    const poll = new native.Poll(a, 'readable', () => {
      console.log('event', ++events);
      Promise.resolve().then(() => console.log('job', events));
      if (events === 2) poll.close();
    });
    native.sendmsg(b, Buffer.from('x'), []);`);
  expect(stdout.split('\n').slice(0, 4)).toEqual(['event 1', 'job 1', 'event 2', 'job 2']);
});

test('an exception in a callback is an uncaught exception, as any', () => {
  const { status, stderr, stdout } = runScript(`
    const [a, b] = native.socketpairSeqpacket();
    const poll = new native.Poll(a, 'readable', () => { poll.close(); throw new Error('out of the callback'); });
    native.sendmsg(b, Buffer.from('x'), []);
    process.once('uncaughtException', (error) => { console.log('caught', error.message); setImmediate(() => { throw new Error('again'); }); });`);
  expect(stdout).toBe('caught out of the callback\n');
  expect(stderr).toContain('again');
  expect(status).not.toBe(0);
});

test('an open poll keeps the loop alive unless it is unreferenced; a closed one does not', () => {
  const alive = runScript(`
    const [a] = native.socketpairSeqpacket();
    const poll = new native.Poll(a, 'readable', () => {});
    setTimeout(() => { console.log('still here'); poll.close(); }, 50).unref();`);
  expect(alive).toMatchObject({ status: 0, stdout: 'still here\n' });
  const unreferenced = runScript(`
    const [a] = native.socketpairSeqpacket();
    new native.Poll(a, 'readable', () => {}).unref();
    setTimeout(() => console.log('still here'), 500).unref();`);
  expect(unreferenced).toMatchObject({ status: 0, stdout: '' });
});

test('an open poll is collected with its worker thread, and a forgotten one stays alive', () => {
  const { status, stdout, stderr } = runScript(`
    const { Worker } = require('node:worker_threads');
    const fs = require('node:fs');
    const body = 'const native = require(' + JSON.stringify(${JSON.stringify(addon)}) + ');'
      + 'const [a, b] = native.socketpairSeqpacket();'
      + 'new native.Poll(a, "readable", () => {}); new native.Poll(b, "writable", () => {});'
      + 'require("node:worker_threads").parentPort.postMessage("up"); setInterval(() => {}, 1000);';
    (async () => {
      for (let i = 0; i < 10; i++) {
        const worker = new Worker(body, { eval: true });
        await new Promise((resolve) => worker.once('message', resolve));
        await worker.terminate();
      }
      const [a, b] = native.socketpairSeqpacket();
      let events = 0;
      (() => { new native.Poll(a, 'readable', () => { events++; native.recvmsg(a, 10); }); })();
      for (let i = 0; i < 5; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 5)); }
      native.sendmsg(b, Buffer.from('x'), []);
      await new Promise((resolve) => setTimeout(resolve, 20));
      console.log('events', events);
      process.exit(0);
    })();`);
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'events 1\n', stderr: '' });
});

test('ten thousand polls leave no descriptor and no memory behind', () => {
  const { stdout, stderr } = runScript(`
    const fs = require('node:fs');
    const [a] = native.socketpairSeqpacket();
    const turn = async (count) => {
      for (let i = 0; i < count; i++) { new native.Poll(a, 'readable', () => {}).close(); if (i % 500 === 0) await new Promise(setImmediate); }
      for (let i = 0; i < 5; i++) { gc(); await new Promise(setImmediate); }
    };
    (async () => {
      await turn(10000);
      const before = { fds: fs.readdirSync('/proc/self/fd').length, rss: process.memoryUsage.rss() };
      await turn(10000);
      console.log(fs.readdirSync('/proc/self/fd').length - before.fds, process.memoryUsage.rss() - before.rss < 8 << 20);
    })();`);
  expect(stderr).toBe('');
  expect(stdout).toBe('0 true\n');
});

test('what cannot be watched says so, and wrong arguments are a TypeError', () => {
  const { Poll } = native();
  const file = openSync('/etc/passwd', 'r');
  expect(() => new Poll(file, 'readable', () => undefined)).toThrow(
    expect.objectContaining({ code: 'EPERM', syscall: 'epoll_ctl' }) as Error,
  );
  closeSync(file);
  expect(() => new Poll(987_654, 'readable', () => undefined)).toThrow(
    expect.objectContaining({ code: 'EBADF' }) as Error,
  );
  expect(() => new Poll(0, 'sideways' as 'readable', () => undefined)).toThrow(TypeError);
});
