import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished, test } from 'vitest';
import { checkpoint, findCriu, restore } from '../../../src/index.js';
import { runningPids } from '../../../src/checkpoint/base/pids.js';
import { compiled } from '../../fixtures/compiled.js';
import { until } from '../../fixtures/criu.js';
import { asMarkdown, sections, type Row } from './state/table.js';

const folder = fileURLToPath(new URL('state/', import.meta.url));
const program = (() => {
  const hash = createHash('sha256');
  for (const name of readdirSync(folder).toSorted()) hash.update(readFileSync(join(folder, name)));
  // The other files are included: their contents are part of what is compiled.
  const sources = `-DSOURCES_${hash.digest('hex').slice(0, 12)}`;
  return compiled(join(folder, 'state.c'), ['-O1', '-Wall', '-Wextra', '-D_GNU_SOURCE', '-pthread', sources]);
})();
const { version } = await findCriu();
/** What is lost with the CRIU of the table may come back with another. */
const isTablesCriu = version.startsWith('4.2');

/** A process that holds these objects, and says what they are when asked. */
class State {
  private constructor(
    readonly dir: string,
    readonly pid: number,
    readonly rows: readonly string[],
  ) {}

  static async start(rows: readonly string[]): Promise<State> {
    const dir = mkdtempSync(join(tmpdir(), 'stillframe-test-state-'));
    const output = openSync(join(dir, 'errors'), 'w');
    // No terminal, no socket of ours, and a session of its own.
    const child = spawn(program, [dir, ...rows], { detached: true, stdio: ['ignore', output, output] });
    closeSync(output);
    await once(child, 'spawn');
    child.unref();
    const state = new State(dir, child.pid as number, rows);
    onTestFinished(async () => {
      await state.end();
      rmSync(dir, { recursive: true, force: true });
    });
    let ended = false;
    child.once('exit', () => (ended = true));
    await until(() => ended || existsSync(join(dir, 'ready')), 'all is set up');
    if (ended) throw new Error(readFileSync(join(dir, 'errors'), 'utf8'));
    return state;
  }

  /** Each row's line; of a row of options one for each option. */
  async ask(): Promise<Map<string, string>> {
    const answer = join(this.dir, 'answer');
    writeFileSync(join(this.dir, 'ask'), '');
    await until(() => existsSync(answer), `${this.rows.join(', ')} are probed`);
    const lines = new Map<string, string>();
    for (const line of readFileSync(answer, 'latin1').split('\n').filter(Boolean)) {
      const [name = '', value = ''] = [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)];
      if (!name.startsWith('options_')) lines.set(name, value);
      else for (const option of value.trim().split(' ')) lines.set(`${name} ${option.split('=')[0]}`, option);
    }
    return lines;
  }

  async end(): Promise<void> {
    if (!existsSync(`/proc/${this.pid}`)) return;
    for (const pid of runningPids(this.pid)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // it ended with its parent
      }
    }
    await until(() => !existsSync(`/proc/${this.pid}`), `${this.pid} is reaped`);
  }
}

async function archived(state: State): Promise<{ archive: string; warnedAs: string[] }> {
  const output = join(state.dir, 'archive.tar');
  const { warnings } = await checkpoint({
    pid: state.pid,
    adopt: true,
    output,
    stateDir: state.dir,
    criu: { tcpEstablished: true },
  });
  const states = warnings.flatMap((each) => (each.code === 'STATE_LOST' ? each.facts.states : []));
  return { archive: output, warnedAs: [...new Set(states.map(({ what }) => what))] };
}

/** Names a row; of a row of options, its options that are lost. */
function lostKeys({ name, fate, options }: Row): string[] {
  if (fate !== 'lost') return [];
  return options === undefined ? [name] : options.map((option) => `${name} ${option}`);
}

async function compare(rows: readonly Row[]): Promise<void> {
  const names = rows.map(({ name }) => name);
  const untouched = await State.start(names);
  const before = await untouched.ask();
  await untouched.end();
  const state = await State.start(names);
  const { archive, warnedAs } = await archived(state);
  expect(warnedAs.toSorted()).toEqual([...new Set(rows.flatMap((row) => row.warnedAs ?? []))].toSorted());
  await state.end();
  await restore({ archive });
  const after = await state.ask();
  const lost = rows.flatMap(lostKeys);
  const changed = [...before].filter(([key, value]) => after.get(key) !== value).map(([key]) => key);
  if (isTablesCriu) expect(changed.toSorted()).toEqual(lost.toSorted());
  else expect(lost).toEqual(expect.arrayContaining(changed));
}

for (const { title, rows } of sections) {
  const together = rows.filter(({ fate, alone }) => fate !== 'refused' && alone !== true);
  it(`${title}: what comes back does, and what is lost is lost, beside each other`, { timeout: 120_000 }, () =>
    compare(together),
  );

  test.each(rows.filter((row) => row.fate !== 'refused' && !together.includes(row)))(
    `${title}: $name: $fate`,
    { timeout: 120_000 },
    (row) => compare([row]),
  );

  const refusals = rows.filter(({ fate }) => fate === 'refused');
  if (refusals.length > 0)
    test.each(refusals)(`${title}: $name: refused`, { timeout: 120_000 }, async ({ name, refusal }) => {
      const { by, code, says } = refusal as NonNullable<Row['refusal']>;
      const state = await State.start([name]);
      const attempt = async (): Promise<void> => {
        const { archive } = await archived(state);
        expect(by).toBe('restore');
        await state.end();
        await restore({ archive });
      };
      const error: unknown = await attempt().catch((caught: unknown) => caught);
      expect(error).toMatchObject({ code, message: expect.stringContaining(says) as string });
    });
}

it('a checkpoint leaves the running tree as it was', { timeout: 120_000 }, async () => {
  const rows = sections
    .flatMap(({ rows }) => rows)
    .filter(({ fate, alone }) => fate === 'comes back' && alone !== true)
    .map(({ name }) => name);
  const untouched = await (await State.start(rows)).ask();
  const state = await State.start(rows);
  await archived(state);
  expect(await state.ask()).toEqual(untouched);
});

it('every object of the program has its row, and the document shows the table', () => {
  const { stdout } = spawnSync(program, ['--list'], { encoding: 'utf8' });
  const names = sections.flatMap(({ rows }) => rows.map(({ name }) => name));
  expect(names.toSorted()).toEqual(stdout.trim().split('\n').toSorted());
  const document = readFileSync(new URL('../../../docs/what-comes-back.md', import.meta.url), 'utf8');
  expect(document).toContain(asMarkdown());
});
