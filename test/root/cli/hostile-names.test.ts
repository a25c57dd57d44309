/** Arguments, names of processes and paths that hold what a terminal acts on: none of it gets there as it is. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { freezerVersions, withCgroup } from '../../fixtures/cgroup.js';
import { until } from '../../fixtures/criu.js';
import { startDetached } from '../../fixtures/detached.js';
import { forge, imageMembers, treeSubject } from '../../fixtures/forge-archive.js';
import { program, stillframe } from '../../fixtures/program.js';
import { openPty } from '../../fixtures/terminal.js';
import { withScratch } from '../archive/archive-fixture.js';

/** A colour by CSI and one by C1, a title, and text that runs the other way. */
const EVIL = '\x1b[31m\u009b32m\x1b]0;x\x07\u202e';
const SHOWN = '\\x1b[31m\\x9b32m\\x1b]0;x\\x07\\u202e';
const ACTS = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

const wrong: string[][] = [
  [EVIL],
  [`--${EVIL}`],
  ['inspect', 'a.tar', '--max-unpacked-bytes', EVIL],
  ...['checkpoint', 'restore', 'pod', 'thaw', 'doctor', 'install-criu'].map((command) => [command, `--${EVIL}`]),
];

it.each(wrong.map((argv) => ({ argv })))('an argument that is wrong is repeated visibly: $argv', async ({ argv }) => {
  const { status, stdout, stderr } = await stillframe(...argv);
  expect(status).toBe(2);
  expect(stderr).toContain(SHOWN);
  expect(ACTS.exec(stdout + stderr)).toBeNull();
});

it.each([[[]], [['--json']]])('a process with such a name is named visibly, with %j', (json) =>
  withCgroup(freezerVersions()[0]!, (cgroup) =>
    withScratch(async (dir) => {
      // 15 bytes are what a name holds.
      const name = '\x1b[31m\u009b2m\u202e';
      const ready = join(dir, 'ready');
      const rename = `open('/proc/self/comm', 'wb').write(${JSON.stringify(name)}.encode())`;
      const named = await startDetached('python3', [
        '-c',
        `import time; ${rename}; open('${ready}', 'w'); time.sleep(1000)`,
      ]);
      const target = await startDetached('sleep', ['1000']);
      await until(() => existsSync(ready), 'it has its name');
      for (const { pid } of [named, target]) cgroup.add(pid);
      const output = join(dir, 'a.tar');
      const { status, stdout, stderr } = await stillframe(
        'checkpoint',
        '--pid',
        String(target.pid),
        '--cgroup',
        cgroup.path,
        '--output',
        output,
        ...json,
      );
      expect([status, stderr]).toEqual([1, expect.stringContaining('CGROUP_HAS_STRANGERS')]);
      expect(ACTS.exec(stdout + stderr)).toBeNull();
      if (json.length === 0) expect(stderr).toContain('\\x1b[31m\\x9b2m\\u202e');
      else expect(JSON.parse(stderr)).toMatchObject({ error: { facts: { strangers: [{ pid: named.pid, name }] } } });
      for (const { kill } of [named, target]) await kill();
    }),
  ),
);

it('the line of progress on a terminal shows nothing of an archive and its path', () =>
  withScratch(async (dir) => {
    await using pty = await openPty();
    mkdirSync(join(dir, EVIL));
    const archive = join(dir, EVIL, `${EVIL}.tar`);
    const members = [...imageMembers, { name: `checkpoint/${EVIL}`, stored: 'x' }];
    writeFileSync(archive, forge({ members, subject: treeSubject({ kind: EVIL }) }));
    const command = spawn(process.execPath, [program, 'restore', archive], { stdio: ['ignore', 'ignore', pty.slave] });
    expect(await once(command, 'exit')).toEqual([1, null]);
    await until(() => pty.said().includes('stillframe:'), 'the error');
    expect(pty.said()).toContain('verifying the archive');
    expect(pty.said()).toContain(SHOWN);
    for (const acting of ['\x1b[31m', '\u009b', '\x1b]', '\x07', '\u202e']) expect(pty.said()).not.toContain(acting);
  }));
