import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openArchive, verifyArchive, walkMembers, type Entry } from '../../../src/archive/index.js';
import { checkpointContainer, restoreContainer } from '../../../src/container/index.js';
import { Bundle, makeImage, must, newId, RuncContainer } from '../../fixtures/container.js';
import { startContainerd, type Containerd } from '../../fixtures/containerd.js';
import { until } from '../../fixtures/processes.js';

/** As containerd's CRI writes them. */
const ANNOTATIONS = {
  'io.kubernetes.cri.container-type': 'container',
  'io.kubernetes.cri.container-name': 'web',
  'io.kubernetes.cri.image-name': 'registry.example/web:1',
  'io.kubernetes.cri.sandbox-id': 'sandbox',
  'io.kubernetes.cri.sandbox-name': 'shop',
  'io.kubernetes.cri.sandbox-namespace': 'default',
  'io.kubernetes.cri.sandbox-uid': 'u-1',
};

/** A mark of it has a name of 259 bytes, which no file could have. */
const LONG = 'l'.repeat(255);

/** What the container does to the image of `makeDeletable`: each way in which something can go from a directory. */
const DELETIONS = [
  'rm /etc/gone "/etc/mit Umlaut ä"',
  `rm /etc/${LONG}`,
  'rm -r /deleted',
  'mv /moved/from /moved/to',
  'rm -r /replaced && mkdir /replaced /replaced/old && echo new > /replaced/old/new',
  'rm -r /becomes-file && echo file > /becomes-file',
  'rm /becomes-directory && mkdir -p /becomes-directory/in/it',
  'rm -r /becomes-link && ln -s etc /becomes-link',
  'rm /link-to-directory && mkdir /link-to-directory && echo own > /link-to-directory/own',
  'rm /etc/back && echo back > /etc/back',
  'rm -r /emptied/all /emptied/of',
  'chmod 711 /modes',
];

let scratch: string;
let image: string;
let containerd: Containerd;
beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeDeletable(makeImage(join(scratch, 'image')));
  await must('tar', '-C', image, '-cf', join(scratch, 'image.tar'), '.');
  containerd = await startContainerd();
});
afterAll(async () => {
  await containerd?.[Symbol.asyncDispose]();
  rmSync(scratch, { recursive: true, force: true });
});

function makeDeletable(dir: string): string {
  for (const name of ['deleted/deep/er', 'moved', 'becomes-file/in/it', 'becomes-link', 'emptied/all', 'emptied/of'])
    mkdirSync(join(dir, name), { recursive: true });
  for (const name of ['etc/mit Umlaut ä', `etc/${LONG}`, 'etc/back', 'moved/from', 'becomes-file/in/it/x'])
    writeFileSync(join(dir, name), 'of the image\n');
  for (const name of ['deleted/deep/er/file', 'becomes-directory', 'becomes-link/x', 'emptied/of/x'])
    writeFileSync(join(dir, name), 'of the image\n');
  spawnSync('ln', ['-s', 'etc', join(dir, 'link-to-directory')]);
  return dir;
}

function bundleOf({ overlay = true, changes = DELETIONS } = {}): Bundle {
  const args = ['sh', '-c', `${changes.join(' && ')} && touch /tmp/done && exec sleep 1000`];
  return new Bundle(image, { overlay, args, config: { annotations: ANNOTATIONS } });
}

/** A container that did all that, then stands still. */
async function run(bundle: Bundle): Promise<RuncContainer> {
  const container = await RuncContainer.run(bundle);
  if (await until(() => existsSync(join(bundle.rootfs, 'tmp/done')), 10_000)) return container;
  await container.end();
  throw new Error('the container did not make its changes');
}

/** Everything below a root file system: where, what, whose, how long, where to. */
function treeOf(root: string): string[] {
  const { stdout } = spawnSync(
    'find',
    [
      '.',
      '-mindepth',
      '1',
      '(',
      '-type',
      'd',
      '-printf',
      '%P %y %m %U %G\n',
      '-o',
      '-printf',
      '%P %y %m %U %G %s %l\n',
      ')',
    ],
    { cwd: root, encoding: 'utf8' },
  );
  return stdout.split('\n').sort();
}

async function diffOf(archive: string): Promise<Entry[]> {
  await using open = await openArchive(archive);
  const { trees } = await verifyArchive(open);
  const tree = trees.find(({ name }) => name.toString() === 'rootfs-diff.tar');
  const entries: Entry[] = [];
  for await (const { entry } of walkMembers(open, tree?.range)) entries.push(entry);
  expect(tree?.record.entries).toBe(entries.length);
  return entries;
}

/** What containerd makes of the image and an archive's difference. */
async function byContainerd(archive: string): Promise<string[]> {
  const unpacked = mkdtempSync(join(scratch, 'unpacked-'));
  await must('tar', '-C', unpacked, '-xf', archive, 'rootfs-diff.tar');
  return treeOf(await containerd.unpack([join(scratch, 'image.tar'), join(unpacked, 'rootfs-diff.tar')]));
}

it("what a container of containerd's deleted stays deleted when containerd or Stillframe restores it", async () => {
  const archive = join(scratch, 'deleted.tar');
  await using bundle = bundleOf();
  await using container = await run(bundle);
  await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output: archive, stop: true });
  const expected = treeOf(bundle.rootfs);
  expect(expected).toContain('replaced/old/new f 644 0 0 4 ');
  expect(expected.filter((line) => /gone|deleted|from|hidden/.test(line))).toEqual([]);

  expect(await byContainerd(archive)).toEqual(expected);

  await using second = new Bundle(image);
  await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
  await restoreContainer({ runc: restored.id, stateRoot: restored.stateRoot, bundle: second.dir, archive });
  expect(treeOf(second.rootfs)).toEqual(expected);
});

it('the marks are empty files of mode 0 behind all others, and deleted.files says the same', async () => {
  const archive = join(scratch, 'marks.tar');
  await using bundle = bundleOf({ changes: ['rm /etc/gone', 'rm -r /replaced', 'mkdir /replaced'] });
  await using container = await run(bundle);
  await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output: archive });
  const entries = await diffOf(archive);
  expect(entries.slice(-3)).toMatchObject(
    ['etc/.wh.gone', 'replaced/.wh.hidden', 'replaced/.wh.old'].map((name) => ({
      name: Buffer.from(name),
      type: 'file',
      size: 0,
      mode: 0,
      uid: 0,
      gid: 0,
    })),
  );
  expect(entries.slice(0, -3).filter(({ name }) => name.includes('.wh.'))).toEqual([]);
  expect(JSON.parse(await must('tar', '-xOf', archive, 'deleted.files'))).toEqual([
    '/etc/gone',
    '/replaced/hidden',
    '/replaced/old',
  ]);
});

it('of a root that is no overlay, containerd keeps nothing of the image but what was there', async () => {
  const archive = join(scratch, 'whole.tar');
  await using bundle = bundleOf({ overlay: false });
  await using container = await run(bundle);
  const { id, stateRoot } = container;
  await checkpointContainer({ runc: id, stateRoot, output: archive, stop: true, wholeRootfs: true });
  expect(await byContainerd(archive)).toEqual(treeOf(bundle.rootfs));
});

it.each([[true], [false]])('a file that would be taken for such a mark is refused (overlay: %s)', async (overlay) => {
  const archive = join(scratch, 'refused.tar');
  await using bundle = bundleOf({ overlay, changes: ['echo mine > /etc/.wh.kept'] });
  await using container = await run(bundle);
  const { id, stateRoot } = container;
  await expect(
    checkpointContainer({ runc: id, stateRoot, output: archive, wholeRootfs: !overlay }),
  ).rejects.toMatchObject({ name: 'ContainerError', code: 'WHITEOUT_NAME', facts: { id, path: '/etc/.wh.kept' } });
  expect(existsSync(archive)).toBe(false);
  expect((await container.state()).status).toBe('running');
  expect(readFileSync(join(bundle.rootfs, 'etc/.wh.kept'), 'utf8')).toBe('mine\n');
});
