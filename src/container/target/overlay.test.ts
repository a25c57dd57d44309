import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Entry, EntryType } from '../../archive/index.js';
import { deletedPaths } from './overlay-deletions.js';
import { OverlayFilter } from './overlay.js';

const UPPER = { upperDir: '/upper', xattrPrefix: 'trusted.overlay.' } as const;

function entry(
  name: string,
  type: EntryType,
  more: Partial<Entry> & { attributes?: Record<string, string> } = {},
): Entry {
  const { attributes = {}, ...rest } = more;
  const xattrs = Object.entries(attributes).map(([key, value]) => ({
    name: Buffer.from(key),
    value: Buffer.from(value),
  }));
  return {
    name: Buffer.from(name, 'latin1'),
    type,
    mode: 0o755,
    uid: 0,
    gid: 0,
    size: 0,
    mtimeNs: 0n,
    ...(xattrs.length === 0 ? {} : { xattrs }),
    ...rest,
  };
}

const whiteout = (name: string): Entry => entry(name, 'character-device', { devmajor: 0, devminor: 0 });
const paths = (...names: string[]): Buffer[] => names.map((name) => Buffer.from(name, 'latin1'));

describe('the filter of an upper directory', () => {
  it('drops whiteouts of both kinds and of hard links, and names them', async () => {
    const overlay = new OverlayFilter(UPPER);
    expect(overlay.entry(whiteout('etc/gone'))).toBeUndefined();
    expect(overlay.entry(entry('etc/gone-too', 'hardlink', { linkname: Buffer.from('etc/gone') }))).toBeUndefined();
    expect(
      overlay.entry(entry('etc/by-attribute', 'file', { attributes: { 'trusted.overlay.whiteout': '' } })),
    ).toBeUndefined();
    expect(overlay.entry(entry('dev/null', 'character-device', { devmajor: 1, devminor: 3 }))).toBeDefined();
    expect((await overlay.diff(paths('etc/gone', 'etc/gone-too', 'etc/by-attribute', 'dev/null'))).deleted).toEqual([
      'etc/gone',
      'etc/gone-too',
      'etc/by-attribute',
    ]);
  });

  it("takes the overlay's own attributes away and leaves every other", () => {
    const overlay = new OverlayFilter(UPPER);
    const attributes = {
      'trusted.overlay.origin': 'x',
      'trusted.overlay.impure': 'y',
      'security.capability': 'c',
      'user.overlay.note': 'n',
    };
    const out = overlay.entry(entry('a', 'file', { attributes }));
    expect(out?.xattrs?.map(({ name }) => name.toString())).toEqual(['security.capability', 'user.overlay.note']);
    expect(overlay.entry(entry('b', 'file', { attributes: { 'trusted.overlay.origin': 'x' } }))).not.toHaveProperty(
      'xattrs',
    );
  });

  it('leaves an entry without marks as it is, the very object', () => {
    const plain = entry('a', 'file', { attributes: { 'user.x': '1' } });
    expect(new OverlayFilter(UPPER).entry(plain)).toBe(plain);
  });

  it.each(['metacopy', 'redirect'])('refuses %s, which points into the layers below', (feature) => {
    expect(() =>
      new OverlayFilter(UPPER).entry(entry('a', 'file', { attributes: { [`trusted.overlay.${feature}`]: '' } })),
    ).toThrow(
      expect.objectContaining({
        code: 'OVERLAY_UNSUPPORTED',
        facts: expect.objectContaining({ name: 'a', feature }) as object,
      }) as Error,
    );
  });

  it('tells an opaque directory from one that only has whiteouts as attributes', async () => {
    const overlay = new OverlayFilter(UPPER);
    overlay.entry(entry('replaced', 'directory', { attributes: { 'trusted.overlay.opaque': 'y' } }));
    overlay.entry(entry('marked', 'directory', { attributes: { 'trusted.overlay.opaque': 'x' } }));
    expect((await overlay.diff(paths('replaced', 'marked'))).opaque).toEqual(['replaced']);
  });

  it('believes the last that it has seen of a path, and nothing of one that is gone', async () => {
    const overlay = new OverlayFilter(UPPER);
    overlay.entry(entry('a', 'file'));
    overlay.entry(whiteout('a'));
    overlay.entry(whiteout('b'));
    overlay.entry(entry('b', 'file'));
    overlay.entry(whiteout('c'));
    overlay.entry(entry('d', 'file'));
    overlay.entry(entry('d', 'directory'));
    const diff = await overlay.diff(paths('a', 'b', 'd'));
    expect(diff.deleted).toEqual(['a']);
    expect(['a', 'b', 'c', 'd'].map((name) => diff.at(name))).toEqual(['deleted', undefined, undefined, 'directory']);
  });
});

describe('the deleted paths', () => {
  let dir: string;
  let lowerDirs: string[];
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
    lowerDirs = [join(dir, 'near'), join(dir, 'far')];
    mkdirSync(join(dir, 'near/replaced/kept'), { recursive: true });
    mkdirSync(join(dir, 'far/replaced/deep/deeper'), { recursive: true });
    writeFileSync(join(dir, 'near/replaced/hidden'), '');
    writeFileSync(join(dir, 'near/replaced/kept/under'), '');
    writeFileSync(join(dir, 'far/replaced/overwritten'), '');
    writeFileSync(join(dir, 'far/untouched'), '');
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  it('are the whiteouts, and what an opaque directory hides in any layer and does not have itself', async () => {
    const overlay = new OverlayFilter(UPPER);
    const all = [
      entry('.', 'directory'),
      whiteout('gone'),
      entry('replaced', 'directory', { attributes: { 'trusted.overlay.opaque': 'y' } }),
      entry('replaced/overwritten', 'file'),
      entry('replaced/kept', 'directory'),
      entry('fresh', 'directory', { attributes: { 'trusted.overlay.opaque': 'y' } }),
    ];
    for (const one of all) overlay.entry(one);
    const live = (): Buffer[] => all.map(({ name }) => name);
    expect(await deletedPaths(await overlay.diff(live()), live, { ...UPPER, lowerDirs, device: '0:1' })).toEqual([
      '/gone',
      '/replaced/deep',
      '/replaced/hidden',
      '/replaced/kept/under',
    ]);
  });

  it('follow no link of a layer, which could lead anywhere on this machine', async () => {
    mkdirSync(join(dir, 'of-the-host/secret'), { recursive: true });
    symlinkSync(join(dir, 'of-the-host'), join(dir, 'near/linked'));
    symlinkSync('../of-the-host', join(dir, 'far/linked'));
    const overlay = new OverlayFilter(UPPER);
    const opaque = { attributes: { 'trusted.overlay.opaque': 'y' } };
    const all = [entry('linked', 'directory', opaque), entry('linked/secret', 'directory', opaque)];
    for (const one of all) overlay.entry(one);
    const live = (): Buffer[] => all.map(({ name }) => name);
    expect(await deletedPaths(await overlay.diff(live()), live, { ...UPPER, lowerDirs, device: '0:1' })).toEqual([]);
  });

  it('are refused when one of them is not UTF-8', async () => {
    const overlay = new OverlayFilter(UPPER);
    overlay.entry(whiteout('caf\xe9'));
    await expect(
      deletedPaths(await overlay.diff(paths('caf\xe9')), () => paths('caf\xe9'), {
        ...UPPER,
        lowerDirs,
        device: '0:1',
      }),
    ).rejects.toMatchObject({ code: 'OVERLAY_UNSUPPORTED' });
  });
});
