/** `verify` says what CRIU would refuse: real archives of a real tree, changed, with hashes that are right. */
import { existsSync, linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, it, onTestFinished } from 'vitest';
import { checkpoint, verify, type Restorability } from '../../../src/index.js';
import { startDetached } from '../../fixtures/detached.js';
import { until } from '../../fixtures/criu.js';
import { forge, takeApart, type ForgedMember, type Forgery } from '../../fixtures/forge-archive.js';
import { stillframe } from '../../fixtures/program.js';

let dir: string;
let data: string;
let pid: number;
let honest: string;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  data = join(dir, 'data');
  honest = join(dir, 'honest.tar');
  return () => rmSync(dir, { recursive: true, force: true });
});

/** Of a tree that has a log, and a file with two names, open. */
async function archived(): Promise<Required<Forgery>> {
  if (!existsSync(honest)) {
    mkdirSync(data);
    writeFileSync(join(data, 'a-first-name'), 'four');
    linkSync(join(data, 'a-first-name'), join(data, 'second-name'));
    writeFileSync(join(data, 'unopened'), 'five.');
    const script = `exec 3<>${data}/log 4<${data}/second-name 5>>${data}/appended; echo line >&3; touch ${dir}/ready; exec sleep 1000`;
    const tree = await startDetached('sh', ['-c', script]);
    await until(() => existsSync(join(dir, 'ready')), 'the tree is ready');
    ({ pid } = tree);
    await checkpoint({
      ...{ pid, adopt: true, stop: true, output: honest, stateDir: join(dir, 'state') },
      files: [{ path: data, name: 'data' }],
    });
  }
  return takeApart(honest);
}

async function verdictOf(change: (members: ForgedMember[]) => ForgedMember[]): Promise<Restorability> {
  const forgery = await archived();
  const path = join(dir, 'forged.tar');
  const members = change(forgery.members);
  const trees = forgery.trees.map((tree) => ({
    ...tree,
    entries: members.filter(({ name }) => /^data(\/|$)/.test(String(name))).length,
  }));
  writeFileSync(path, forge({ ...forgery, members, trees }));
  onTestFinished(() => rmSync(path));
  return (await verify(path)).restorable;
}

const without = (name: string) => (members: ForgedMember[]) => members.filter((member) => String(member.name) !== name);

/** With another content, and a header that belongs to it. */
const withStored = (name: string, change: (stored: Buffer) => Buffer) => (members: ForgedMember[]) =>
  members.map((member) => {
    if (String(member.name) !== name) return member;
    const { head: _, ...rest } = member;
    const stored = change(member.stored as Buffer);
    return { ...rest, stored, size: stored.length };
  });

it('an archive as it was made would restore, and says what it expects of the machine', async () => {
  const { processes, faults, expected } = await verdictOf((members) => members);
  expect({ processes, faults }).toEqual({ processes: 1, faults: [] });
  expect(expected.map(({ path }) => path)).toContainEqual(expect.stringMatching(/\/(libc|ld-).*\.so/));
  expect(expected.filter(({ path }) => path.startsWith(data))).toEqual([]);
  expect(
    expected.every(({ pids, bytes, mode }) => pids.includes(pid) && bytes !== undefined && mode !== undefined),
  ).toBe(true);
});

it.each([
  ['that has grown', 'log', 'file-size', withStored('data/log', (log) => Buffer.concat([log, log])), [5, 10]],
  ['that was cut', 'log', 'file-size', withStored('data/log', (log) => log.subarray(1)), [5, 4]],
  ['of another name', 'second-name', 'file-size', withStored('data/a-first-name', () => Buffer.from('f')), [4, 1]],
  ['that is gone', 'log', 'file-missing', without('data/log'), []],
  ['that was appended to and is gone', 'appended', 'file-missing', without('data/appended'), []],
] as const)('a file %s is named: %s', async (_, name, kind, change, [recorded, found]) => {
  const { faults } = await verdictOf(change);
  const path = join(data, name);
  expect(faults).toMatchObject([{ kind, path, pids: [pid], ...(recorded === undefined ? {} : { recorded, found }) }]);
  expect(faults[0]?.message).toContain(`${path} (of process ${pid})`);
});

it('a file of another mode is named', async () => {
  const { faults } = await verdictOf((members) =>
    members.map((member) => {
      if (String(member.name) !== 'data/log') return member;
      const { head: _, ...rest } = member;
      return { ...rest, mode: 0o600 };
    }),
  );
  expect(faults).toMatchObject([{ kind: 'file-mode', path: join(data, 'log'), recorded: 0o100644, found: 0o100600 }]);
});

it.each([
  ['that nobody has open', without('data/unopened')],
  ['that is only appended to', withStored('data/appended', () => Buffer.from('more'))],
])('a file %s may be any', async (_, change) => {
  expect((await verdictOf(change)).faults).toEqual([]);
});

it.each(['core', 'ids', 'mm', 'fs', 'pagemap'])('a process without its %s image is named', async (kind) => {
  await archived();
  const member = `checkpoint/${kind}-${pid}.img`;
  const { faults } = await verdictOf(without(member));
  expect(faults).toMatchObject([{ kind: 'image', member }]);
  expect(faults[0]?.message).not.toContain('.stillframe-');
});

it.each(['inventory', 'pstree', 'files'])('%s.img that is damaged is named', async (name) => {
  const member = `checkpoint/${name}.img`;
  const { faults } = await verdictOf(withStored(member, (image) => image.subarray(0, image.length - 1)));
  expect(faults).toMatchObject([{ kind: 'image', member }]);
});

it('memory that is missing is named', async () => {
  const { faults } = await verdictOf(withStored('checkpoint/pages-1.img', (pages) => pages.subarray(4096)));
  const [fault] = faults;
  expect(faults).toMatchObject([{ kind: 'pages', member: 'checkpoint/pages-1.img' }]);
  expect((fault?.recorded as number) - (fault?.found as number)).toBe(4096);
});

it('the command says it, and its exit status', async () => {
  await archived();
  const fine = await stillframe('verify', honest);
  expect(fine).toMatchObject({ status: 0 });
  expect(fine.stdout).toContain("restorable: CRIU's images are complete");
  const forged = join(dir, 'forged.tar');
  const { members, ...rest } = await archived();
  writeFileSync(forged, forge({ ...rest, members: withStored('data/log', (log) => log.subarray(1))(members) }));
  const faulty = await stillframe('verify', forged);
  expect(faulty).toMatchObject({ status: 1 });
  expect(faulty.stdout).toContain(`PROBLEM  ${join(data, 'log')} (of process ${pid}): 5 bytes were recorded`);
  expect(faulty.stdout).toContain('CRIU will not restore it: one problem');
});
