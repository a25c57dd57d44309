/** Files under a journal's name that are none: of another version, damaged, or something else altogether. */
import { execFileSync, spawn } from 'node:child_process';
import {
  chownSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { lockTarget } from '../../../src/checkpoint/guardian/lock.js';
import { Journal, readJournals } from '../../../src/checkpoint/guardian/journal.js';
import { frozenCgroups, leftJournals, recover } from '../../../src/checkpoint/guardian/recover.js';
import { identify, type ProcessId } from '../../../src/proc/identity.js';
import { freezerVersions, withCgroup } from '../../fixtures/cgroup.js';
import { spawnCounter } from '../../fixtures/processes.js';
import { stillframe } from '../../fixtures/program.js';
import { numberOf, TestState } from './owner.js';

const ID = '00000000-0000-4000-8000-000000000000';
const alive = identify(process.pid) as ProcessId;
const dead: ProcessId = { pid: process.pid, startTime: '1' };
const nameOf = ({ pid, startTime }: ProcessId): string => `${ID}@${pid}-${startTime}.json`;

/** A journal of this boot and of this version, of the process itself. */
function aJournal(state: TestState): Record<string, unknown> {
  using journal = Journal.create(state.dir, { target: alive });
  return { ...(JSON.parse(readFileSync(journal.path, 'utf8')) as object), id: ID, lock: 'held' };
}

const without = (entry: Record<string, unknown>, name: string): Record<string, unknown> =>
  Object.fromEntries(Object.entries(entry).filter(([other]) => other !== name));

type Make = (path: string, state: TestState) => void;

const writes =
  (of: (entry: Record<string, unknown>) => unknown): Make =>
  (path, state) => {
    writeFileSync(path, JSON.stringify(of(aJournal(state))));
  };

/** What nothing can be learned from. */
const strangers: [string, Make, RegExp][] = [
  ['garbage', (path) => writeFileSync(path, Buffer.from([0xff, 0x00, 0x1b, 0x5b])), /^cannot be read/],
  ['nothing', (path) => writeFileSync(path, ''), /^cannot be read/],
  [
    'a journal that is cut short',
    (path, state) => {
      writes((entry) => entry)(path, state);
      truncateSync(path, 100);
    },
    /^cannot be read/,
  ],
  ['null', writes(() => null), /^is not a JSON object/],
  ['a number', writes(() => 1), /^is not a JSON object/],
  ['a list', writes((entry) => [entry]), /^is not a JSON object/],
  ['an empty object', writes(() => ({})), /^has no number for its format/],
  ['an object with a format alone', writes(() => ({ format: 2 })), /^is of format 2, not 1/],
  ['a target that is a text', writes((entry) => ({ ...entry, target: 'init' })), /^has no target as it should be/],
  [
    'no target and nothing else',
    writes((entry) => without(entry, 'target')),
    /^has not one of target, restore, restored, podDirectory/,
  ],
  [
    'a target without a start time',
    writes((entry) => ({ ...entry, target: { pid: 1 } })),
    /^has no target as it should be/,
  ],
  ['a deep document', (path) => writeFileSync(path, '['.repeat(1 << 20)), /^cannot be read: more than 100 values/],
  [
    'a huge file',
    (path) => {
      writeFileSync(path, '');
      truncateSync(path, 2 ** 40);
    },
    /^has 1099511627776 bytes/,
  ],
  ['a FIFO', (path) => execFileSync('mkfifo', [path]), /^is not a regular file/],
  ['a directory', (path) => mkdirSync(path), /^is not a regular file/],
  ['a link to a journal', (path) => symlinkSync('other', path), /^cannot be read: ELOOP/],
  [
    "another user's file",
    (path, state) => {
      writes((entry) => entry)(path, state);
      chownSync(path, 65534, 65534);
    },
    /^belongs to uid 65534/,
  ],
];

it.each(strangers)(
  '%s holds every lock under the name of a living process, and none under a dead one',
  async (_what, make, why) => {
    using state = new TestState();
    mkdirSync(state.dir, { mode: 0o700 });
    await using counter = await spawnCounter();
    const path = join(state.dir, nameOf(alive));
    make(path, state);
    await expect(lockTarget({ pid: counter.pid, stateDir: state.dir })).rejects.toMatchObject({
      code: 'TARGET_BUSY',
      facts: { holder: { pid: process.pid }, unknownJournal: { path, why: expect.stringMatching(why) } },
    });
    expect(leftJournals({ stateDir: state.dir })).toMatchObject([{ path, owner: process.pid, isAlive: true }]);

    execFileSync('mv', [path, join(state.dir, nameOf(dead))]);
    using lock = await lockTarget({ pid: counter.pid, stateDir: state.dir });
    expect(lock.entry.lock).toBe('held');
    expect(readJournals(state.dir)).toHaveLength(1);
    expect(await recover({ stateDir: state.dir })).toEqual([]);
    expect(await frozenCgroups({ stateDir: state.dir })).toBeInstanceOf(Array);
    expect(leftJournals({ stateDir: state.dir })).toMatchObject([
      { path: join(state.dir, nameOf(dead)), owner: process.pid, isAlive: false, why: expect.stringMatching(why) },
    ]);
  },
);

it.each(freezerVersions())('keeps out of the way of another version, and of nothing else, cgroup %s', (version) =>
  withCgroup(version, async (cgroup) => {
    using state = new TestState();
    await using counter = await spawnCounter();
    await using other = await spawnCounter();
    const inner = cgroup.child('inner');
    const sibling = cgroup.child('sibling');
    const place = (path: string) => ({ version: numberOf(version), path });
    using mine = await lockTarget({ pid: counter.pid, cgroup: place(inner.path), stateDir: state.dir });
    const { target, cgroup: locked } = mine.entry;
    const path = join(state.dir, nameOf(alive));
    const newer = { ...aJournal(state), format: 2, extra: { of: 'a newer version' }, target, cgroup: locked };
    writeFileSync(path, JSON.stringify(newer));
    mine.remove();

    const wanted = { pid: other.pid, stateDir: state.dir };
    for (const taken of [
      { ...wanted, pid: counter.pid },
      ...[cgroup, inner].map((c) => ({ ...wanted, cgroup: place(c.path) })),
    ])
      await expect(lockTarget(taken)).rejects.toMatchObject({
        code: 'TARGET_BUSY',
        facts: { holder: { targetPid: counter.pid }, unknownJournal: { path, why: 'is of format 2, not 1' } },
      });
    (await lockTarget({ ...wanted, cgroup: place(sibling.path) })).remove();

    // Its owner is dead, and its guardian is not.
    execFileSync('mv', [path, join(state.dir, nameOf(dead))]);
    writeFileSync(join(state.dir, nameOf(dead)), JSON.stringify({ ...newer, guardian: alive }));
    await expect(lockTarget({ ...wanted, pid: counter.pid })).rejects.toMatchObject({ code: 'TARGET_BUSY' });
    writeFileSync(join(state.dir, nameOf(dead)), JSON.stringify({ ...newer, guardian: dead }));
    (await lockTarget({ ...wanted, cgroup: place(inner.path) })).remove();
    writeFileSync(join(state.dir, nameOf(dead)), JSON.stringify({ ...newer, guardian: alive, bootId: 'another' }));
    (await lockTarget({ ...wanted, cgroup: place(inner.path) })).remove();
  }),
);

it("a newer version's restore locks nothing", async () => {
  using state = new TestState();
  await using counter = await spawnCounter();
  const restore = { ...without(aJournal(state), 'target'), format: 2, restore: { of: 'whatever it will be' } };
  writeFileSync(join(state.dir, nameOf(alive)), JSON.stringify(restore));
  using lock = await lockTarget({ pid: counter.pid, stateDir: state.dir });
  expect(lock.entry.lock).toBe('held');
});

const ours = `.${readlinkSync('/proc/self/ns/pid').replace(/\D/g, '')}.new`;
const halfWritten = (state: TestState): string[] => readdirSync(state.dir).filter((name) => name.endsWith('.new'));

it('what is no file under the name of a half-written journal stays, and stops nobody', async () => {
  using state = new TestState();
  await using counter = await spawnCounter();
  mkdirSync(state.dir, { mode: 0o700 });
  mkdirSync(join(state.dir, `${nameOf(dead)}${ours}`));
  writeFileSync(join(state.dir, `${nameOf(dead).replace(/^0/, '1')}${ours}`), '{');
  using _lock = await lockTarget({ pid: counter.pid, stateDir: state.dir });
  expect(halfWritten(state)).toEqual([`${nameOf(dead)}${ours}`]);
});

it('a half-written journal stays while its owner may live: in another pid namespace, its pid means nothing', () => {
  using state = new TestState();
  mkdirSync(state.dir, { mode: 0o700 });
  const [ofAlive, elsewhere, ofDead] = [`${nameOf(alive)}${ours}`, `${nameOf(dead)}.1.new`, `${nameOf(dead)}${ours}`];
  for (const name of [ofAlive, elsewhere, ofDead]) writeFileSync(join(state.dir, name), '');
  expect(readJournals(state.dir)).toEqual([]);
  expect(halfWritten(state).toSorted()).toEqual([elsewhere, ofAlive].toSorted());
});

it('nothing is taken from under an owner of another pid namespace while it writes', async () => {
  using state = new TestState();
  const built = new URL('../../../dist/src/checkpoint/guardian/journal.js', import.meta.url).href;
  const writes = `
    const { Journal } = await import(${JSON.stringify(built)});
    const journal = Journal.create(${JSON.stringify(state.dir)}, { restoreOf: '/a.tar' });
    const removals = Array.from({ length: 2000 }, (_, i) => '/tmp/' + i);
    for (const end = Date.now() + 1000; Date.now() < end;) journal.update({ removals });
    journal.remove();`;
  const args = [
    '--pid',
    '--fork',
    '--kill-child',
    '--mount-proc',
    process.execPath,
    '--input-type=module',
    '-e',
    writes,
  ];
  const child = spawn('unshare', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  let said = '';
  child.stderr.on('data', (text) => (said += String(text)));
  const seen = new Set<string>();
  while (child.exitCode === null && child.signalCode === null) {
    for (const { entry } of readJournals(state.dir)) seen.add(entry.pidNamespace);
    await setImmediate();
  }
  expect([child.exitCode, said]).toEqual([0, '']);
  // It was at work while we looked.
  expect([...seen]).toEqual([expect.not.stringContaining(readlinkSync('/proc/self/ns/pid'))]);
  expect(state.journals()).toEqual([]);
});

it('`stillframe recover` names what it leaves, and why', async () => {
  using state = new TestState();
  mkdirSync(state.dir, { mode: 0o700 });
  const path = join(state.dir, nameOf(dead));
  writeFileSync(path, '{');
  const { stdout, stderr, status } = await stillframe('recover', '--state-dir', state.dir);
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr).toContain(`not recovered: ${path} cannot be read`);
  expect(stderr).toContain(`process ${dead.pid} has ended`);
  expect(readdirSync(state.dir)).toEqual([nameOf(dead)]);
});
