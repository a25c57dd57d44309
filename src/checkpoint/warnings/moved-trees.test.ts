import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Manifest } from '../../archive/index.js';
import type { DumpedFile } from '../../criu/index.js';
import { findMovedTrees } from './moved-trees.js';
import { warning } from './warning.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const file = (path: string, more: Partial<DumpedFile> = {}): DumpedFile => ({
  id: 1,
  path: Buffer.from(path),
  flags: 0,
  pos: 0,
  external: false,
  ...more,
});

function found(source: string, destination: string | { recorded: string }, files: readonly DumpedFile[]): unknown[] {
  const manifest = { trees: [{ name: 'data', source }] } as unknown as Manifest;
  return findMovedTrees(manifest, [['data', destination]], files);
}

describe('a tree that goes elsewhere', () => {
  it.each([
    ['a file below its old place', '/srv/data/log'],
    ['its old place itself', '/srv/data'],
  ])('is named when a process has %s', (_, path) => {
    expect(found('/srv/data', '/new/data', [file('/lib/x.so'), file(path), file(path)])).toEqual([
      { tree: 'data', source: '/srv/data', destination: '/new/data', files: [path], more: 0 },
    ]);
  });

  it.each<[string, string | { recorded: string }, DumpedFile]>([
    ['nothing is open there', '/new', file('/srv/database')],
    ['it goes where it was', '/srv/../srv/data/', file('/srv/data/log')],
    ['it goes to where it was recorded', { recorded: '/srv/data' }, file('/srv/data/log')],
    ['the images hold the file', '/new', file('/srv/data/log', { remap: 'ghost' })],
    ['the caller brings the file', '/new', file('/srv/data/log', { external: true })],
  ])('is none when %s', (_, destination, open) => {
    expect(found('/srv/data', destination, [open])).toEqual([]);
  });

  it('is none when its old place leads to the new one', () => {
    mkdirSync(join(dir, 'new'));
    symlinkSync('new', join(dir, 'old'));
    expect(found(join(dir, 'old'), join(dir, 'new'), [file(join(dir, 'old/log'))])).toEqual([]);
  });

  it('is told with few files of many, and of names that would act on a terminal', () => {
    const files = Array.from({ length: 5000 }, (_, i) => file(`/srv/data/\x1b[2J${i}`));
    const [moved] = found('/srv/data', '/new', files) as [{ files: string[]; more: number }];
    expect([moved.files.length, moved.more]).toEqual([100, 4900]);
    const { message } = warning('TREE_ELSEWHERE', { trees: [moved as never] });
    expect(message).toContain('and 4990 more');
    expect(message).not.toContain('\x1b');
  });
});
