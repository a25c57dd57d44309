import { expect, it } from 'vitest';
import { forge, imageMembers, treeSubject, tree } from '../../fixtures/forge-archive.js';
import { program, run } from '../../fixtures/program.js';
import { withScratch, writeArchive } from '../archive/archive-fixture.js';

/** Sets the clipboard, clears the line above, colours by C1, and turns the text around. */
const EVIL = '\x1b]52;c;ZWNobyBwd25lZA==\x07\x1b[1A\x1b[2K\r\u009b31m\u202e';
const ACTS = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

const subject = treeSubject({
  createdAt: `now${EVIL}`,
  kernel: { release: `6.18${EVIL}`, arch: 'x64' },
  criu: { version: `4${EVIL}` },
  cgroup: { version: 1, name: `/a${EVIL}`, members: [] },
});
const evilTree = { ...tree(`x${EVIL}`, 1), source: `/srv${EVIL}` };
const members = [...imageMembers, { name: `x${EVIL}`, type: 'directory' as const }];

it.each([
  ['what an archive says', { members, trees: [evilTree], subject }, ['inspect']],
  ['the names of members', { members, trees: [evilTree], subject }, ['inspect', '--members']],
  ['JSON', { members, trees: [evilTree], subject }, ['inspect', '--json', '--members']],
  ['a kind in an error', { members, subject: treeSubject({ kind: `k${EVIL}` }) }, ['restore']],
  ['a tree in an error', { members: [...imageMembers], trees: [evilTree], subject }, ['verify']],
  ['an error as JSON', { members: [...imageMembers], trees: [evilTree], subject }, ['verify', '--json']],
])('nothing that a terminal would act on gets there: %s', (_, forgery, args) =>
  withScratch(async (dir) => {
    const archive = await writeArchive(dir, forge(forgery));
    const { stdout, stderr } = await run(process.execPath, [program, ...args, archive]);
    const text = stdout.toString() + stderr;
    expect(text).toMatch(/x1b|u001b/); // it is told
    expect(ACTS.exec(text)).toBeNull();
    if (args.includes('--json')) expect(() => void JSON.parse(stdout.toString() || stderr)).not.toThrow();
  }),
);

it('JSON says the same in other characters', () =>
  withScratch(async (dir) => {
    const archive = await writeArchive(dir, forge({ members, trees: [evilTree], subject }));
    const { stdout } = await run(process.execPath, [program, 'inspect', '--json', archive]);
    expect(JSON.parse(stdout.toString())).toMatchObject({ manifest: { subject: { createdAt: `now${EVIL}` } } });
  }));
