import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { isAlive } from '../../proc/task.js';
import { launch, run, type CommandOptions } from './command.js';

const commands = {
  run: (command: string, options: CommandOptions) => run(command, [], options),
  launch: (command: string, options: CommandOptions) => launch(command, [], { ...options, logPath: `${command}.log` }),
};

test.each(['run', 'launch'] as const)(
  '%s: a command that is cancelled is ended, and its signal says why',
  async (how) => {
    const dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
    try {
      const cancel = new AbortController();
      const reason = new Error('enough');
      const command = join(dir, 'runtime');
      writeFileSync(command, '#!/bin/sh\nexec sleep 600\n', { mode: 0o700 });
      let pid = 0;
      const work = commands[how](command, { signal: cancel.signal, onStarted: (started) => (pid = started) });
      expect(isAlive(pid)).toBe(true);
      cancel.abort(reason);
      await expect(work).rejects.toBe(reason);
      await vi.waitUntil(() => !isAlive(pid), 10_000);
    } finally {
      rmSync(dir, { recursive: true });
    }
  },
);
