import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { checkpoint, restore } from '../../../src/index.js';
import { until } from '../../fixtures/criu.js';
import { startDetached } from '../../fixtures/detached.js';
import { program, library } from '../../fixtures/program.js';

/** Ends by SIGUSR1 with 7, by SIGUSR2 with a real-time signal, which has no name. */
const script = `
import os, signal, time
signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))
signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), 40))
while True: time.sleep(0.01)
`;

async function archived(): Promise<{ pid: number; archive: string; stateDir: string }> {
  const dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const { pid, kill } = await startDetached('python3', ['-c', script]);
  // Signals 10 and 12, the lowest bits of the mask but two of its digits.
  const hasHandlers = (): boolean => /^SigCgt:.*a..$/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  await until(hasHandlers, 'its handlers are set');
  const [archive, stateDir] = [join(dir, 'app.tar'), join(dir, 'state')];
  await checkpoint({ pid, adopt: true, output: archive, stateDir });
  await kill();
  onTestFinished(() => {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // it has ended
    }
  });
  return { pid, archive, stateDir };
}

/** The command, as soon as it has told the pid. */
async function waiting(archive: string, stateDir: string) {
  const child = spawn(process.execPath, [program, 'restore', archive, '--state-dir', stateDir, '--wait'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const closed = once(child, 'close');
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  await once(child.stdout, 'data');
  return { child, closed, stderr: () => stderr };
}

test(
  'its end is told with exit code or signal, to all who wait, also when it is over',
  { timeout: 120_000 },
  async () => {
    const { pid, archive, stateDir } = await archived();
    for (const [signal, end] of [
      ['SIGUSR1', { exitCode: 7, status: 7 }],
      ['SIGTERM', { exitSignal: 'SIGTERM', status: 143 }],
      ['SIGUSR2', { status: 168 }],
    ] as const) {
      const report = await restore({ archive, stateDir });
      const waits = [report.ended(), report.ended()];
      await expect(report.ended({ signal: AbortSignal.timeout(50) })).rejects.toThrow('timeout');
      process.kill(pid, signal);
      expect(await Promise.all(waits)).toEqual([end, end]);
      expect(await report.ended()).toEqual(end);
      expect(JSON.parse(JSON.stringify(report))).not.toHaveProperty('ended');
    }
  },
);

test('who does not wait for it ends, and the tree runs on', { timeout: 120_000 }, async () => {
  const { pid, archive, stateDir } = await archived();
  const source = `const { restore } = await import(${JSON.stringify(library)});
    const { ended } = await restore(${JSON.stringify({ archive, stateDir })});
    await ended({ signal: AbortSignal.timeout(10) }).catch(() => undefined);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], { stdio: 'inherit' });
  expect(await once(child, 'close')).toEqual([0, null]);
  process.kill(pid, 0);
});

test('restore --wait ends with its status, and Ctrl-C ends the waiting alone', { timeout: 120_000 }, async () => {
  const { pid, archive, stateDir } = await archived();
  for (const [signal, status] of [
    ['SIGUSR1', 7],
    ['SIGKILL', 137],
  ] as const) {
    const { closed } = await waiting(archive, stateDir);
    process.kill(pid, signal);
    expect(await closed).toEqual([status, null]);
  }
  const { child, closed, stderr } = await waiting(archive, stateDir);
  child.kill('SIGINT');
  expect(await closed).toEqual([130, null]);
  expect(stderr()).toContain(`process ${pid} runs on`);
  process.kill(pid, 0);
});
