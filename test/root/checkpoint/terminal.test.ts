/** A tree whose terminal is outside of it: a shell's job. */
import { readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkpoint, restore } from '../../../src/index.js';
import { freezerVersions, withCgroup } from '../../fixtures/cgroup.js';
import { scratch, until } from '../../fixtures/criu.js';
import { program, stillframe } from '../../fixtures/program.js';
import { openPty, TerminalJob, TerminalSession } from '../../fixtures/terminal.js';

const answers = 'while read -r word; do echo "got-$word"; done';

test("a shell's job is ended in one terminal and goes on in the foreground of another, both by the command", async () => {
  await using dir = await scratch();
  const archive = join(dir.path, 'job.tar');
  await using job = await TerminalJob.start(answers);
  await using shell = new TerminalSession();
  const node = `${process.execPath} ${program}`;
  shell.type(`${node} checkpoint --pid ${job.pid} --adopt --stop --output ${archive}; echo "status-$?-"\n`);
  await until(() => /status-\d+-/.test(shell.said()), 'the checkpoint ends');
  expect(shell.said()).toContain('status-0-');
  expect(shell.said()).toContain('in a terminal: its own is outside the tree');
  await job.ended();

  const { status, stderr } = await stillframe('restore', archive);
  expect([status, stderr]).toEqual([1, expect.stringContaining('[NO_TERMINAL]') as string]);

  shell.type(`${node} restore ${archive}; echo "restored-$?-"\n`);
  await until(() => shell.said().split('total time').length === 3, 'the job is restored');
  shell.type('hello\n');
  await until(() => shell.said().includes('got-hello'), 'the job answers');
  expect(shell.said()).not.toMatch(/restored-\d+-/);
  shell.type('\x03');
  await until(() => shell.said().includes('restored-130-'), 'Ctrl-C has ended the job, and the command as it did');
});

test.each(freezerVersions())(
  'one that is restored into a terminal of nobody has its cgroup for itself, and can be checkpointed again (%s)',
  async (version) => {
    await withCgroup(version, async (cgroup) => {
      await using dir = await scratch();
      const archive = join(dir.path, 'job.tar');
      await using job = await TerminalJob.start(answers);
      cgroup.add(job.pid);
      expect(await checkpoint({ pid: job.pid, cgroup: cgroup.path, output: archive, stop: true })).toMatchObject({
        stopped: true,
        needsTerminal: true,
      });
      await job.ended();
      await expect(restore({ archive })).rejects.toMatchObject({
        code: 'NO_TERMINAL',
        facts: { archivePath: archive },
      });

      await using pty = await openPty();
      await expect(restore({ archive, terminal: pty.master })).rejects.toMatchObject({
        code: 'BAD_OPTION',
        facts: { option: 'terminal' },
      });
      expect(await restore({ archive, terminal: pty.slave })).toMatchObject({ pid: job.pid, hasTerminal: true });
      expect(cgroup.pids()).toEqual([job.pid]);
      writeSync(pty.master, 'hello\n');
      await until(() => pty.said().includes('got-hello'), 'the job answers');
      expect(
        await checkpoint({ pid: job.pid, cgroup: cgroup.path, output: join(dir.path, 'again.tar') }),
      ).toMatchObject({ needsTerminal: true });
      writeSync(pty.master, 'again\n');
      await until(() => pty.said().includes('got-again'), 'the job goes on');

      const leader = /\) \S (\d+)/.exec(readFileSync(`/proc/${job.pid}/stat`, 'latin1'))?.[1] ?? '';
      process.kill(job.pid, 'SIGKILL');
      await until(() => ended(leader), 'what leads the session ends with it');
    });
  },
);

function ended(pid: string): boolean {
  try {
    return /\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return true;
  }
}
