/** What a restore asks of the new bundle's root file system, and what it leaves of it when it fails. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { restoreContainer } from '../../../src/container/index.js';
import { forgeContainer, type ForgedContainer } from '../../fixtures/forge-archive.js';

let scratch: string;
let bundle: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  bundle = join(scratch, 'bundle');
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

/** There are no images that CRIU could restore: the runtime fails, after all else has been done. */
function restored(forged: ForgedContainer = {}): Promise<unknown> {
  const archive = join(scratch, 'a.tar');
  const spec = { ociVersion: '1.0.2', process: { args: ['x'], cwd: '/' }, root: { path: 'rootfs' } };
  writeFileSync(archive, forgeContainer({ spec, ...forged }));
  const names = {
    runc: `forged-${process.pid}`,
    stateRoot: join(scratch, 'state'),
    stateDir: join(scratch, 'journals'),
  };
  return restoreContainer({ archive, bundle, ...names });
}

const missing: [what: string, make: () => void, rootfs: string][] = [
  ['a bundle', () => undefined, 'rootfs'],
  ['the root file system of a bundle', () => mkdirSync(bundle), 'rootfs'],
  [
    'the root file system that its config.json names',
    () => {
      mkdirSync(join(bundle, 'rootfs'), { recursive: true });
      writeFileSync(join(bundle, 'config.json'), JSON.stringify({ root: { path: 'elsewhere' } }));
    },
    'elsewhere',
  ],
  [
    'a directory, where there is a file',
    () => {
      mkdirSync(bundle);
      writeFileSync(join(bundle, 'rootfs'), '');
    },
    'rootfs',
  ],
];

it.each(missing)('%s that is missing is named, with what to make', async (_, make, rootfs) => {
  make();
  const before = existsSync(bundle) ? readdirSync(bundle) : undefined;
  await expect(restored()).rejects.toMatchObject({
    name: 'ContainerError',
    code: 'ROOTFS_MISSING',
    facts: { bundle, rootfs: join(bundle, rootfs) },
    remedy: expect.stringContaining('image') as string,
  });
  expect(existsSync(bundle) ? readdirSync(bundle) : undefined).toEqual(before);
});

describe('the archive of a whole root file system', () => {
  const whole: ForgedContainer = {
    diff: [
      { name: 'etc', type: 'directory' },
      { name: 'etc/kept', stored: 'kept' },
    ],
    container: { wholeRootfs: true },
  };
  const inRoot = (): string[] => readdirSync(join(bundle, 'rootfs'));

  it.each(['gone', '.hidden'])('is not put over what there is: %s', async (name) => {
    mkdirSync(join(bundle, 'rootfs'), { recursive: true });
    writeFileSync(join(bundle, 'rootfs', name), '');
    await expect(restored(whole)).rejects.toMatchObject({ code: 'ROOTFS_NOT_EMPTY' });
    expect([inRoot(), readdirSync(bundle)]).toEqual([[name], ['rootfs']]);
  });

  it('leaves the root empty, as it was, when the runtime fails, so that it can be tried again', async () => {
    mkdirSync(join(bundle, 'rootfs'), { recursive: true });
    await expect(restored(whole)).rejects.toMatchObject({ code: 'RUNTIME_FAILED' });
    expect([inRoot(), readdirSync(bundle)]).toEqual([[], ['rootfs']]);
  });

  it('leaves the root empty when the files cannot be put into place', async () => {
    mkdirSync(join(bundle, 'rootfs'), { recursive: true });
    const diff = [
      { name: 'a', stored: 'a file' },
      { name: 'b/c', stored: 'b' },
      { name: 'd', type: 'directory' as const },
    ];
    const documents = {
      'bind.mounts': [{ source: '/x', destination: '/a/b/c', file_type: 'file', permissions: 0o644 }],
    };
    await restored({ ...whole, diff, documents }).catch(() => undefined);
    expect([inRoot(), readdirSync(bundle)]).toEqual([[], ['rootfs']]);
  });
});
