/** The recipes of docs/fault-tolerance.md, run as they stand there but for paths and ports. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, it } from 'vitest';
import { start } from '../../src/index.js';
import { freePort } from '../fixtures/criu.js';
import { heard, type Heard } from '../fixtures/heard.js';
import { until } from '../fixtures/processes.js';
import { program } from '../fixtures/program.js';
import { Programs } from '../fixtures/programs.js';

const LONG_MS = 400_000;
const START_MS = 100_000;

const repository = fileURLToPath(new URL('../..', import.meta.url));
const page = readFileSync(join(repository, 'docs/fault-tolerance.md'), 'utf8');

/** A program of the page with other paths; all of these have to be in it. */
function recipe(language: string, beginning: string, put: Record<string, string>): string {
  const blocks = [...page.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'gms'))].map(([, text]) => text!);
  let text = blocks.find((block) => block.startsWith(beginning));
  if (text === undefined) throw new Error(`no ${language} that begins with ${beginning}`);
  for (const [there, here] of Object.entries(put)) {
    if (!text.includes(there)) throw new Error(`"${beginning}" has no ${there}`);
    text = text.replaceAll(there, here);
  }
  return text;
}

const COUNTER = `
import sys, time
i = 0
while True:
    i += 1
    with open(sys.argv[1] + '/steps', 'a') as steps:
        steps.write(str(i) + '\\n')
    time.sleep(0.02)
`;

/** The command with a state directory and a log of the test's own; and a program that counts, into `steps`. */
function scripts(programs: Programs): { stillframe: string; counter: string } {
  const [stillframe, counter] = [programs.path('stillframe'), programs.path('counter')];
  const log = `test "$command" = run && set -- --log ${programs.path('log')} "$@"`;
  const typed = `${process.execPath} ${program} $command --state-dir ${programs.stateDir}`;
  const own = `command=$1; shift\n${log}\nexec ${typed}`;
  writeFileSync(stillframe, `#!/bin/sh\n${own} "$@"\n`, { mode: 0o755 });
  // Not in a shell: CRIU refuses a tree in the middle of a vfork, and a shell that counts is in one half of the time.
  writeFileSync(counter, `#!/usr/bin/python3 -IS\n${COUNTER}`, { mode: 0o755 });
  return { stillframe, counter };
}

const started = (command: string, ...args: string[]): Heard => heard(command, args, { endMs: START_MS });

const steps = (data: string): number[] => {
  try {
    return readFileSync(join(data, 'steps'), 'utf8').trim().split('\n').map(Number);
  } catch {
    return [];
  }
};

/** Each step once, in order. */
const expectNoLoss = (found: readonly number[]): void => expect(found).toEqual(found.map((_, index) => index + 1));

it('a service that survives a reboot', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const { stillframe, counter } = scripts(programs);
  const units = { '/usr/local/bin/stillframe': stillframe, '/var/lib/web': programs.path('web') };
  const files = {
    'web.service': recipe('ini', '# /etc/systemd/system/web.service', {
      ...units,
      '/usr/local/bin/web-server': counter,
    }),
    'web-checkpoints.service': recipe('ini', '# /etc/systemd/system/web-checkpoints.service', units),
  };
  mkdirSync(programs.path('units'));
  const paths = Object.entries(files).map(([name, text]) => {
    const path = join(programs.path('units'), name);
    writeFileSync(path, text);
    return path;
  });
  // In an environment without systemd's own units it complains of those, on lines of their own.
  const { stderr, error } = spawnSync('systemd-analyze', ['verify', '--man=no', ...paths], { encoding: 'utf8' });
  if (error === undefined) expect(stderr.split('\n').filter((line) => line.includes('web'))).toEqual([]);
  else expect(error).toMatchObject({ code: 'ENOENT' }); // a machine without systemd

  for (const name of ['web/data', 'web/checkpoints']) mkdirSync(programs.path(name), { recursive: true, mode: 0o700 });
  const [web, checkpoints] = Object.values(files).map((text) => {
    const [command, ...args] = /^ExecStart=(.*)$/m.exec(text)![1]!.split(' ');
    return () => started(command!, ...args);
  });
  const data = programs.path('web/data');
  const firstBoot = web!();
  expect(await until(() => steps(data).length > 3, START_MS), firstBoot.said).toBe(true);
  const service = checkpoints!();
  expect(await until(() => service.said.includes('frozen for'), START_MS), service.said).toBe(true);
  service.child.kill('SIGTERM');
  expect([await service.ended(), await firstBoot.ended()]).toEqual([true, true]);
  expect([service.child.exitCode, firstBoot.child.exitCode], service.said).toEqual([0, 137]);
  const before = steps(data).length;

  const secondBoot = web!();
  expect(await until(() => steps(data).length > before + 3, START_MS), secondBoot.said).toBe(true);
  expect(await until(() => secondBoot.said.includes('restored from'), START_MS), secondBoot.said).toBe(true);
  expectNoLoss(steps(data).slice(0, before + 3));
});

it('a job on a machine that can be taken away', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const { stillframe, counter } = scripts(programs);
  const [data, shared] = [programs.path('job/data'), programs.path('shared')];
  const script = programs.path('job.sh');
  const text = recipe('sh', '#!/bin/sh -e\n', {
    '/srv/job/data': data,
    '/srv/job/compute': counter,
    '/mnt/shared/job': shared,
    'stillframe run': `${stillframe} run`,
    'stillframe checkpoint': `${stillframe} checkpoint`,
  });
  writeFileSync(script, text, { mode: 0o755 });
  mkdirSync(shared, { mode: 0o700 });
  let before = 0;
  for (const machine of ['first', 'second']) {
    mkdirSync(data, { recursive: true });
    const job = started(script);
    expect(await until(() => job.said.includes('frozen for'), START_MS), job.said).toBe(true);
    expect(await until(() => steps(data).length > before + 3, START_MS), machine).toBe(true);
    job.child.kill('SIGTERM');
    expect(await job.ended()).toBe(true);
    expect(job.child.exitCode, job.said).toBe(0);
    expectNoLoss(steps(data));
    before = steps(data).length;
    // Of this machine there is only what is shared left, and what the next one has, too.
    rmSync(data, { recursive: true });
  }
});

const SERVER = `
import http.server, os, sqlite3, sys
os.chdir(sys.argv[1])
database = sqlite3.connect('rows.db')
database.execute('pragma journal_mode = wal')
database.execute('create table rows (n integer)')
database.executemany('insert into rows values (?)', [(1,), (2,)])
database.commit()
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = str(database.execute('select count(*) from rows').fetchone()[0]).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = answer
    def do_POST(self):
        database.execute('insert into rows values (3)')
        database.commit()
        self.answer()
    def log_message(self, *_): pass
http.server.HTTPServer(('127.0.0.1', int(sys.argv[2])), Handler).serve_forever()
`;

it('a test database as it was, for each test', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const port = await freePort();
  mkdirSync(programs.path('data'), { mode: 0o700 });
  writeFileSync(programs.path('server.py'), SERVER);
  const server = await start({
    command: ['/usr/bin/python3', '-IS', programs.path('server.py'), programs.path('data'), String(port)],
    ...{ name: 'db', stateDir: programs.stateDir, logPath: programs.path('log'), cwd: '/' },
    files: [{ name: 'data', path: programs.path('data') }],
  });
  const isUp = (): Promise<boolean> =>
    fetch(`http://127.0.0.1:${port}/rows`).then(
      () => true,
      () => false,
    );
  await expect.poll(isUp, { timeout: START_MS }).toBe(true);
  const archive = programs.path('db.tar');
  const made = await programs.run('checkpoint', '--name', 'db', '--stop', '--output', archive);
  expect(made.status, made.stderr).toBe(0);
  await server.ended();

  const text = recipe('ts', "import { prepare, restore } from 'stillframe';", {
    '/var/lib/tests/db.tar': archive,
    "'/var/lib/tests/db'": `'${programs.path('db')}'`,
    'http://127.0.0.1:8080': `http://127.0.0.1:${port}`,
  });
  mkdirSync(programs.path('node_modules'));
  symlinkSync(repository, programs.path('node_modules/stillframe'));
  const file = programs.path('reset.mjs');
  writeFileSync(file, ts.transpile(text, { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext }));
  const tests = started(process.execPath, file);
  expect(await tests.ended()).toBe(true);
  expect([tests.said, tests.child.exitCode]).toEqual(['one 2 3\ntwo 2 3\nthree 2 3\n', 0]);
  // Each copy's guardian removes what it had written.
  const hidden = (): string[] => readdirSync(programs.dir).filter((name) => name.startsWith('.stillframe-'));
  await expect.poll(hidden, { timeout: START_MS }).toEqual([]);
});
