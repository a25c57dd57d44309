import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { ReadStream, isatty } from 'node:tty';
import { createWriteStream } from 'node:fs';
import { beforeAll, expect, test } from 'vitest';
import { CriuClient, findCriu } from '../../../src/criu/index.js';
import { scratch, until } from '../../fixtures/criu.js';

let criuPath: string;
beforeAll(async () => {
  criuPath = (await findCriu()).path;
});

const children = (pid: number): number[] => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);

test("a shell's terminal comes back as a descriptor, and what is typed into it the shell does", async () => {
  await using work = await scratch();
  // script(1) holds the master of the shell's terminal: outside of the tree that is dumped.
  const script = spawn('script', ['-qefc', 'exec env -i PS1= HISTFILE= /bin/sh -i', '/dev/null'], { stdio: ['pipe', 'pipe', 'ignore'], cwd: '/' });
  let before = '';
  script.stdout.on('data', (data: Buffer) => (before += data.toString()));
  script.stdin.write('word=kept; echo ready-$((40+2))\n');
  await until(() => before.includes('ready-42'), 'the shell answers');
  const [shell = 0] = children(script.pid ?? 0);

  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({ pid: shell, imagesDir: work.path, logFile: 'dump.log', logLevel: 4, orphanPtsMaster: true, networkLock: 'skip' });
  await dumper.close();
  if (script.exitCode === null) await once(script, 'exit');

  let master: number | undefined;
  await using restorer = await CriuClient.start({ criuPath });
  const { pid } = await restorer.restore(
    { imagesDir: work.path, logFile: 'restore.log', logLevel: 4, orphanPtsMaster: true },
    { onNotify: ({ script: name, fd }) => { if (name === 'orphan-pts-master') master = fd; } },
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
    await until(() => { try { return /^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'latin1')); } catch { return true; } }, 'the shell has ended');
  } finally {
    terminal.destroy();
  }
});
