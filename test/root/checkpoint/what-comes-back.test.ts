import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, test } from 'vitest';
import { checkpoint, findCriu, restore, type Warning } from '../../../src/index.js';
import { program, State } from './state/state.js';
import { asMarkdown, sections, type Row } from './state/table.js';

const { version } = await findCriu();
/** What is lost with the CRIU of the table may come back with another. */
const isTablesCriu = version.startsWith('4.2');

interface Lost {
  whats: string[];
  options: string[];
}

/** What was warned of. */
function lostBy(warnings: readonly Warning[]): Lost {
  const states = warnings.flatMap((each) => (each.code === 'STATE_LOST' ? each.facts.states : []));
  const unique = (all: string[]): string[] => [...new Set(all)].toSorted();
  return {
    whats: unique(states.map(({ what }) => what)),
    options: unique(states.flatMap(({ options = [] }) => options)),
  };
}

/** What has to be. */
function lostOf(rows: readonly Row[]): Lost {
  const named = (option: string): string => (/^(IP|IPV6|TCP|UDP)_/.test(option) ? option : `SO_${option}`);
  const unique = (all: string[]): string[] => [...new Set(all)].toSorted();
  return {
    whats: unique(rows.flatMap(({ warnedAs = [] }) => warnedAs)),
    options: unique(
      rows.flatMap(({ options = [], warnedOption = [] }) => [...options.map(named), ...[warnedOption].flat()]),
    ),
  };
}

async function archived(state: State): Promise<{ archive: string; lost: Lost }> {
  const output = join(state.dir, 'archive.tar');
  const { warnings } = await checkpoint({
    pid: state.pid,
    adopt: true,
    output,
    stateDir: state.dir,
    criu: { tcpEstablished: true },
  });
  return { archive: output, lost: lostBy(warnings) };
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
  const { archive, lost: warnedOf } = await archived(state);
  expect(warnedOf).toEqual(lostOf(rows));
  await state.end();
  const { warnings } = await restore({ archive });
  expect(lostBy(warnings)).toEqual(warnedOf);
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
