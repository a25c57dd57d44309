import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, createWriteStream, openSync, readFileSync, writeSync } from 'node:fs';
import { ReadStream, isatty } from 'node:tty';
import { beforeAll, expect, test } from 'vitest';
import { CriuClient, findCriu } from '../../../src/criu/index.js';
import { failure, scratch, until } from '../../fixtures/criu.js';
import { openPty, TerminalJob, TerminalSession } from '../../fixtures/terminal.js';

let criuPath: string;
beforeAll(async () => {
  criuPath = (await findCriu()).path;
});

const children = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);

test("a shell's terminal comes back as a descriptor, and what is typed into it the shell does", async () => {
  await using work = await scratch();
  // script(1) holds the master of the shell's terminal: outside of the tree that is dumped.
  const script = spawn('script', ['-qefc', 'exec env -i PS1= HISTFILE= /bin/sh -i', '/dev/null'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    cwd: '/',
  });
  let before = '';
  script.stdout.on('data', (data: Buffer) => (before += data.toString()));
  script.stdin.write('word=kept; echo ready-$((40+2))\n');
  await until(() => before.includes('ready-42'), 'the shell answers');
  const [shell = 0] = children(script.pid ?? 0);

  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({
    pid: shell,
    imagesDir: work.path,
    logFile: 'dump.log',
    logLevel: 4,
    orphanPtsMaster: true,
    networkLock: 'skip',
  });
  await dumper.close();
  if (script.exitCode === null) await once(script, 'exit');

  let master: number | undefined;
  await using restorer = await CriuClient.start({ criuPath });
  const { pid } = await restorer.restore(
    { imagesDir: work.path, logFile: 'restore.log', logLevel: 4, orphanPtsMaster: true },
    {
      onNotify: ({ script: name, fd }) => {
        if (name === 'orphan-pts-master') master = fd;
      },
    },
  );
  expect(pid).toBe(shell);
  expect(master).toBeTypeOf('number');
  expect(isatty(master ?? -1)).toBe(true);
  const terminal = new ReadStream(master ?? -1);
  const typed = createWriteStream('', { fd: master ?? -1, autoClose: false });
  try {
    let after = '';
    terminal.on('data', (data: Buffer) => (after += data.toString()));
    terminal.on('error', () => undefined); // EIO, when the shell is gone
    typed.write('echo "$word-$((6*7))"\n');
    await until(() => after.includes('kept-42'), 'the restored shell answers');
    typed.write('exit\n');
    await until(() => {
      try {
        return /^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
      } catch {
        return true;
      }
    }, 'the shell has ended');
  } finally {
    terminal.destroy();
  }
});

const answers = 'while read -r word; do echo "got-$word"; done';

test("a shell's job comes back into a terminal that is given: it answers, is in its foreground, and Ctrl-C ends it", async () => {
  await using work = await scratch();
  await using job = await TerminalJob.start(answers);
  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({ pid: job.pid, imagesDir: work.path, shellJob: true, networkLock: 'skip' });
  await job.ended();

  await using pty = await openPty();
  await using restorer = await CriuClient.start({ criuPath, terminal: pty.slave });
  const { pid } = await restorer.restore({ imagesDir: work.path, logFile: 'restore.log', logLevel: 4, shellJob: true });
  expect(pid).toBe(job.pid);
  await restorer.close();
  writeSync(pty.master, 'hello\n');
  await until(() => pty.said().includes('got-hello'), 'the job answers');
  writeSync(pty.master, '\x03');
  expect(await restorer.ended).toMatchObject({ exitCode: 130 });
  await until(() => gone(pid), 'the job has been reaped');
});

test('the terminal of another session cannot be given to a job, and the error says so', async () => {
  await using work = await scratch();
  await using job = await TerminalJob.start(answers);
  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({ pid: job.pid, imagesDir: work.path, shellJob: true, networkLock: 'skip' });
  await using other = new TerminalSession();
  await until(() => other.terminal() !== undefined, 'the other shell has its terminal');
  const fd = openSync(other.terminal() ?? '', constants.O_RDWR | constants.O_NOCTTY);
  try {
    await using restorer = await CriuClient.start({ criuPath, terminal: fd });
    const error = await failure(restorer.restore({ imagesDir: work.path, logFile: 'restore.log', shellJob: true }));
    expect(error.facts.problem).toBe('shell-job');
    expect(error.remedy).toContain('another session');
  } finally {
    closeSync(fd);
  }
});

test('what is no terminal, or the wrong side of one, is refused before a CRIU is started', async () => {
  await using pty = await openPty();
  const file = openSync('/dev/null', 'r+');
  try {
    for (const terminal of [file, pty.master, 4_000_000, -1, 0.5]) {
      const error = await failure(CriuClient.start({ criuPath: '/nonexistent', terminal }));
      expect(error).toMatchObject({ code: 'BAD_OPTION', facts: { option: 'terminal' } });
    }
  } finally {
    closeSync(file);
  }
});

function gone(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch {
    return true;
  }
}
