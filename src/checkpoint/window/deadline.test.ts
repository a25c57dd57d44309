import { spawn } from 'node:child_process';
import { getEventListeners, once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Deadline } from './deadline.js';

describe('Deadline', () => {
  it('aborts once the window has been open for too long, and names what was under way then', async () => {
    let phase = 'freeze';
    using deadline = new Deadline({ maxFrozenMs: 30, phase: () => phase });
    await sleep(60);
    expect(deadline.signal.aborted, 'the time does not run before the window opens').toBe(false);
    deadline.start();
    phase = 'dump';
    await sleep(60);
    expect(deadline.signal.reason).toMatchObject({
      code: 'DEADLINE_EXCEEDED',
      facts: { maxFrozenMs: 30, phase: 'dump' },
    });
    expect(deadline.exceeded).toBe(deadline.signal.reason);
  });

  it('gives up a CRIU that does not get ready, and no longer asks once the window opens', async () => {
    using waiting = new Deadline({ criuStartTimeoutMs: 20, phase: () => 'dump' });
    waiting.awaitCriu(process.pid);
    await sleep(60);
    expect(waiting.exceeded).toMatchObject({
      code: 'CRIU_NOT_READY',
      facts: { pid: process.pid, timeoutMs: 20, state: expect.stringMatching(/^[RS]$/) },
    });
    expect(waiting.signal.reason).toBe(waiting.exceeded);
    using ready = new Deadline({ criuStartTimeoutMs: 20, phase: () => 'dump' });
    ready.awaitCriu(process.pid);
    ready.start();
    await sleep(60);
    expect(ready.signal.aborted).toBe(false);
  });

  it('gives up a CRIU that somebody has stopped in a pre-dump, and leaves alone one that works', async () => {
    const sleeper = spawn('sleep', ['1000']);
    try {
      using working = new Deadline({ criuStartTimeoutMs: 30, phase: () => 'pre-dump' });
      using stopped = new Deadline({ criuStartTimeoutMs: 10_000, maxFrozenMs: 30, phase: () => 'pre-dump' });
      working.awaitPreDump(process.pid);
      stopped.awaitPreDump(sleeper.pid!);
      sleeper.kill('SIGSTOP');
      if (!stopped.signal.aborted) await once(stopped.signal, 'abort');
      expect(stopped.exceeded).toMatchObject({
        code: 'CRIU_NOT_READY',
        facts: { pid: sleeper.pid, timeoutMs: 30, state: 'T', during: 'pre-dump' },
      });
      expect(stopped.exceeded?.message).toContain('was stopped (SIGSTOP)');
      expect(working.signal.aborted).toBe(false);
    } finally {
      sleeper.kill('SIGKILL');
    }
  });

  it('aborts nothing after the window is closed', async () => {
    using deadline = new Deadline({ maxFrozenMs: 20, phase: () => 'seal' });
    deadline.start();
    deadline.stop();
    await sleep(50);
    expect(deadline.signal.aborted).toBe(false);
    expect(deadline.exceeded).toBeUndefined();
  });

  it("hands the caller's reason on, and lets go of the caller's signal", () => {
    const caller = new AbortController();
    const reason = new Error('enough');
    {
      using deadline = new Deadline({ maxFrozenMs: 1000, signal: caller.signal, phase: () => 'dump' });
      deadline.start();
      expect(getEventListeners(caller.signal, 'abort')).toHaveLength(1);
      caller.abort(reason);
      expect(deadline.signal.reason).toBe(reason);
      expect(deadline.exceeded).toBeUndefined();
    }
    const second = new AbortController();
    new Deadline({ signal: second.signal, phase: () => '' })[Symbol.dispose]();
    expect(getEventListeners(second.signal, 'abort')).toHaveLength(0);
  });

  it('is aborted from the start when the caller has cancelled already', () => {
    const reason = new Error('never mind');
    using deadline = new Deadline({ signal: AbortSignal.abort(reason), phase: () => 'freeze' });
    expect(deadline.signal.reason).toBe(reason);
  });
});
