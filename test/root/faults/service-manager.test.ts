import { createRequire } from 'node:module';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Phase, PhaseEvent } from '../../../src/checkpoint/events/phases.js';
import { ServiceManager } from '../../../src/checkpoint/events/service-manager.js';
import { until } from '../../fixtures/processes.js';

const dgram = createRequire(import.meta.url)('unix-dgram') as {
  createSocket(type: 'unix_dgram', onMessage: (data: Buffer) => void): { bind(path: string): void; close(): void };
};

/** A real datagram socket where the service manager's would be. */
let scratch: string;
let path: string;
let heard: string[];
let server: { close(): void } | undefined;

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  path = join(scratch, 'notify');
  heard = [];
  const socket = dgram.createSocket('unix_dgram', (data) => heard.push(data.toString()));
  socket.bind(path);
  server = socket;
});
afterEach(() => {
  server?.close();
  server = undefined;
  rmSync(scratch, { recursive: true, force: true });
});

const event = (phase: Phase, at: PhaseEvent['at']): PhaseEvent => ({
  operation: 'checkpoint',
  id: '1',
  phase,
  at,
  sinceMs: 0,
});

describe('the service manager', () => {
  it('is told of each phase, asked for more time while one runs, and its watchdog is fed in the window', async () => {
    const env = { NOTIFY_SOCKET: path, WATCHDOG_USEC: '40000', WATCHDOG_PID: String(process.pid) };
    using manager = ServiceManager.connect({ env, extendEveryMs: 25 });
    expect(manager?.watchdogEveryMs).toBe(20);
    manager?.follow(event('precopy', 'start'));
    await sleep(70);
    manager?.follow(event('precopy', 'end'));
    await until(() => heard.length >= 3);
    expect(heard[0]).toBe('STATUS=checkpoint: copying files while the target runs');
    expect(heard.filter((text) => text === 'EXTEND_TIMEOUT_USEC=100000').length).toBeGreaterThanOrEqual(2);
    expect(heard).not.toContain('WATCHDOG=1');

    heard.length = 0;
    manager?.follow(event('dump', 'start'));
    manager?.follow(event('freeze', 'start'));
    manager?.follow(event('freeze', 'end'));
    await sleep(90);
    manager?.follow(event('dump', 'end'));
    manager?.follow(event('thaw', 'start'));
    manager?.follow(event('thaw', 'end'));
    await sleep(30);
    expect(heard.filter((text) => text === 'WATCHDOG=1').length).toBeGreaterThanOrEqual(3);

    heard.length = 0;
    await sleep(100);
    expect(heard, 'nothing is said when nothing runs').toEqual([]);
  });

  it('is not there when NOTIFY_SOCKET is not set', () => {
    expect(ServiceManager.connect({ env: {} })).toBeUndefined();
  });

  it('is an error when it was asked for and cannot be reached', () => {
    const unreachable = { code: 'SERVICE_MANAGER_UNREACHABLE' };
    for (const socket of [join(scratch, 'nobody'), '@abstract', 'relative']) {
      expect(() => ServiceManager.connect({ env: { NOTIFY_SOCKET: socket } })).toThrow(
        expect.objectContaining(unreachable),
      );
    }
  });

  it('may go away in the middle: nothing fails', async () => {
    using manager = ServiceManager.connect({ env: { NOTIFY_SOCKET: path } });
    server?.close();
    server = undefined;
    rmSync(path);
    expect(existsSync(path)).toBe(false);
    manager?.status('still here');
    manager?.watchdog();
    await sleep(10);
  });

  it('may be slow: a full queue blocks nobody', () => {
    using manager = ServiceManager.connect({ env: { NOTIFY_SOCKET: path } });
    const start = performance.now();
    for (let i = 0; i < 5000; i++) manager?.status(`line ${i}\nSTATUS=forged`);
    expect(performance.now() - start).toBeLessThan(2000);
  });

  it('cannot be told two things in one line', async () => {
    using manager = ServiceManager.connect({ env: { NOTIFY_SOCKET: path } });
    manager?.status('a\nWATCHDOG=1');
    expect(await until(() => heard.length > 0)).toBe(true);
    expect(heard).toEqual(['STATUS=a WATCHDOG=1']);
  });
});
