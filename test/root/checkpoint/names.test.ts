/** Names: one program each, whoever asks for it at once, and whatever has become of the one before. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { findProgram, start } from '../../../src/index.js';
import { endsWithTest } from '../../fixtures/ends-with-test.js';
import { endChild, until } from '../../fixtures/processes.js';
import { library } from '../../fixtures/program.js';
import { Programs } from '../../fixtures/programs.js';

const LONG_MS = 120_000;
const SLEEP = ['sleep', '1000'];

function options(programs: Programs, name?: string) {
  return { name, stateDir: programs.stateDir, logPath: programs.path('log') };
}

it(
  'gives a name to one of many that ask for it at once, and numbers to those that do not mind',
  { timeout: LONG_MS },
  async () => {
    await using programs = Programs.make();
    const starts = Array.from({ length: 4 }, () => start({ command: SLEEP, ...options(programs, 'a') }));
    const codes = (await Promise.allSettled(starts)).map((each) =>
      each.status === 'fulfilled' ? 'started' : (each.reason as { code: string }).code,
    );
    expect(codes.sort()).toEqual(['NAME_TAKEN', 'NAME_TAKEN', 'NAME_TAKEN', 'started']);
    // From processes of their own.
    const script = `const { start } = await import(${JSON.stringify(library)});
    await start(${JSON.stringify({ command: SLEEP, ...options(programs, 'b') })})
      .then(() => console.log('started'), (error) => console.log(error.code))`;
    const said: string[] = [];
    for (let n = 0; n < 3; n++) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      endsWithTest({ [Symbol.asyncDispose]: () => endChild(child) });
      child.stdout.on('data', (data: Buffer) => said.push(data.toString().trim()));
    }
    expect(await until(() => said.length === 3, LONG_MS / 2)).toBe(true);
    expect(said.sort()).toEqual(['NAME_TAKEN', 'NAME_TAKEN', 'started']);
    const anyNames = [
      await start({ command: SLEEP, ...options(programs) }),
      await start({ command: SLEEP, ...options(programs) }),
    ];
    expect(anyNames.map(({ name }) => name)).toEqual(['sleep', 'sleep-2']);
    expect(programs.records().length).toBe(4);
  },
);

it('takes no other process for the program, though it has its pid', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const first = await start({ command: SLEEP, ...options(programs, 'a') });
  const names = join(programs.stateDir, 'names');
  const [file] = readdirSync(names);
  first.kill('SIGKILL');
  await first.ended();
  // As if this very process had got its pid since, and as if it were of another boot.
  renameSync(join(names, file!), join(names, file!.replace(`@${first.pid}-`, `@${process.pid}-`)));
  expect(() => findProgram('a', { stateDir: programs.stateDir })).toThrow('has ended');
  const second = await start({ command: SLEEP, ...options(programs, 'a') });
  expect(programs.list().map(({ pid, state }) => ({ pid, state }))).toEqual([{ pid: second.pid, state: 'running' }]);
});

it('leaves alone what is no record, and tells of one that it does not understand', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const program = await start({ command: SLEEP, ...options(programs, 'a') });
  const names = join(programs.stateDir, 'names');
  const [file] = readdirSync(names);
  writeFileSync(join(names, 'notes'), 'mine');
  writeFileSync(join(names, file!), '{ "format": 2 }');
  expect(() => findProgram('a', { stateDir: programs.stateDir })).toThrow('cannot be read');
  await expect(start({ command: SLEEP, ...options(programs, 'a') })).rejects.toMatchObject({ code: 'NAME_TAKEN' });
  program.kill('SIGKILL');
  const { status, remaining } = await program.ended();
  expect([status, remaining]).toEqual([137, []]);
  expect(existsSync(program.cgroup.path)).toBe(false);
  await (await start({ command: ['true'], ...options(programs, 'a') })).ended();
  expect(programs.records().filter((name) => name === 'notes')).toEqual(['notes']);
});

it('runs nothing of a program whose starter dies before it is placed', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const ran = programs.path('ran');
  // Killed at the moment when the record of the program appears: it has not been told to go by then, or has just been.
  const script = `const { start } = await import(${JSON.stringify(library)});
    process.kill = process.kill; const { Socket } = await import('node:net');
    Socket.prototype.write = () => { process.abort(); };
    await start(${JSON.stringify({ command: ['touch', ran], ...options(programs, 'a') })})`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'ignore' });
  endsWithTest({ [Symbol.asyncDispose]: () => endChild(child) });
  expect(await until(() => child.signalCode !== null, LONG_MS / 2)).toBe(true);
  const { pid, cgroup } = programs.get('a');
  expect(await until(() => programs.get('a').state === 'ended', 10_000)).toBe(true);
  expect(pid).toBeGreaterThan(0);
  await sleep(100);
  expect(existsSync(ran)).toBe(false);
  // The name is free, and the cgroup goes with the next start.
  await (await start({ command: ['true'], ...options(programs, 'a') })).ended();
  expect(existsSync(cgroup!)).toBe(false);
});

it('takes no link for its log or its directory of names', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  writeFileSync(programs.path('secret'), '');
  symlinkSync(programs.path('secret'), programs.path('log'));
  await expect(start({ command: ['true'], ...options(programs, 'a') })).rejects.toMatchObject({ code: 'LOG_UNUSABLE' });
  expect(programs.records()).toEqual([]);
});
