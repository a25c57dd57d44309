import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import type { Command } from 'commander';
import { completionScript, SHELLS } from './completion.js';
import { manPage } from './man-page.js';
import { makeProgram } from './program.js';

let program: Command;
beforeAll(async () => {
  program = await makeProgram(undefined, new AbortController().signal);
});

const has = (tool: string): boolean => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;

/** What bash offers for the last of these words. */
function offered(...words: string[]): string[] {
  const script = `${completionScript('bash', program.commands)}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}
_stillframe; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = spawnSync('bash', ['-c', script], { encoding: 'utf8' });
  expect(stderr).toBe('');
  return stdout.split('\n').filter((line) => line !== '');
}

test('bash completes commands, their own options, and the values of those with a list', () => {
  expect(offered('stillframe', 'che')).toEqual(['checkpoint']);
  expect(offered('stillframe', 'restore', '--lazy')).toEqual(['--lazy-pages']);
  expect(offered('stillframe', 'verify', '--lazy')).toEqual([]);
  expect(offered('stillframe', 'checkpoint', '--compress', 'z')).toEqual(['zstd']);
  expect(offered('stillframe', 'verify', '/etc/host')).toContain('/etc/hosts');
  const spaced = join(scratch(), 'my archive.tar');
  writeFileSync(spaced, '');
  expect(offered('stillframe', 'verify', spaced.slice(0, -5))).toEqual([spaced]);
});

test.each(SHELLS)('the script for %s is one, where that shell is installed', (shell) => {
  const script = completionScript(shell, program.commands);
  for (const command of program.commands) expect(script).toContain(command.name());
  if (!has(shell)) return;
  const flag = shell === 'fish' ? '--no-execute' : '-n';
  const file = join(scratch(), 'script');
  writeFileSync(file, script);
  expect(spawnSync(shell, [flag, file], { encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
});

test('the manual page has every command and option, and is read without a warning', () => {
  const page = manPage(program, '2026-11-30');
  const text = page.replace(/\\-/g, '-');
  for (const command of program.commands) {
    expect(text).toContain(`.SS stillframe ${command.name()}`);
    for (const { flags } of command.options) expect(text).toContain(`.B ${flags}`);
  }
  expect(text).toContain('stillframe restore app.tar --replace');
  if (!has('man')) return;
  const file = join(scratch(), 'stillframe.8');
  writeFileSync(file, page);
  const { status, stderr } = spawnSync('man', ['--warnings', '-l', file], {
    encoding: 'utf8',
    env: { ...process.env, MANROFFOPT: '-ww', MANPAGER: 'cat', LC_ALL: 'C' },
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
