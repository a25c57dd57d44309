import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { checkpointContainer, writeImage } from '../../../src/container/index.js';
import { Bundle, command, makeImage, must, need, newId, RuncContainer } from '../../fixtures/container.js';

let scratch: string;
let archive: string;
const ANNOTATIONS = {
  'io.kubernetes.container.name': 'counter',
  'io.kubernetes.pod.name': 'pod-7',
  'io.kubernetes.cri-o.ImageName': 'registry.example/counter:1',
  'io.container.manager': 'cri-o',
  'io.kubernetes.cri-o.Metadata': JSON.stringify({ name: 'counter', attempt: 0 }),
};

beforeAll(async () => {
  need('skopeo', 'buildah', 'runc');
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  archive = join(scratch, 'checkpoint.tar');
  await using bundle = new Bundle(makeImage(join(scratch, 'image')), { config: { annotations: ANNOTATIONS } });
  await using container = await RuncContainer.run(bundle);
  await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output: archive });
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

it('becomes an image that skopeo copies, with its annotations and every digest right', async () => {
  const directory = join(scratch, 'layout');
  const report = await writeImage({ archive, directory, ref: 'v1' });
  for (const name of readdirSync(join(directory, 'blobs/sha256'))) {
    expect(
      createHash('sha256')
        .update(readFileSync(join(directory, 'blobs/sha256', name)))
        .digest('hex'),
    ).toBe(name);
  }
  const copy = join(scratch, 'copied');
  await must('skopeo', '--insecure-policy', 'copy', '--quiet', `oci:${directory}:v1`, `oci:${copy}:other`);
  const manifest = JSON.parse(await must('skopeo', 'inspect', '--raw', `oci:${copy}:other`)) as {
    annotations: Record<string, string>;
    layers: { size: number }[];
  };
  expect(manifest.annotations).toEqual(report.annotations);
  expect(manifest.annotations).toMatchObject({
    'io.kubernetes.cri-o.annotations.checkpoint.name': 'counter',
    'org.criu.checkpoint.container.name': 'counter',
    'org.criu.checkpoint.engine.name': 'cri-o',
    'org.criu.checkpoint.pod.name': 'pod-7',
    'org.criu.checkpoint.rootfsImageName': 'registry.example/counter:1',
  });
  expect(manifest.layers).toHaveLength(1);
});

it('is mounted by buildah with the members where CRI-O looks for them', async () => {
  // buildah makes an image name of the path, and those are lowercase.
  const directory = join(tmpdir(), newId());
  const container = newId();
  try {
    await writeImage({ archive, directory });
    await must('buildah', 'from', '--quiet', '--name', container, `oci:${directory}:latest`);
    const root = (await must('buildah', 'mount', container)).trim();
    expect(JSON.parse(readFileSync(join(root, 'config.dump'), 'utf8'))).toMatchObject({
      rootfsImageName: 'registry.example/counter:1',
      runtime: 'runc',
    });
    expect(existsSync(join(root, 'checkpoint/inventory.img'))).toBe(true);
    expect(existsSync(join(root, 'spec.dump'))).toBe(true);
  } finally {
    await command('buildah', 'rm', container);
    await command('buildah', 'rmi', `localhost${directory}:latest`);
    rmSync(directory, { recursive: true, force: true });
  }
});

it('is read by checkpointctl, from the overview to every process', async () => {
  const checkpointctl =
    process.env['STILLFRAME_TEST_CHECKPOINTCTL'] ??
    fileURLToPath(new URL('../../../.stillframe/tools/usr/bin/checkpointctl', import.meta.url));
  if (!existsSync(checkpointctl))
    throw new Error(`needs checkpointctl: scripts/install-newer-tools.sh fetches one to ${checkpointctl}`);
  const overview = await must(checkpointctl, 'show', archive);
  for (const text of ['registry.example/counter:1', 'runc', 'CRI-O']) expect(overview).toContain(text);
  const [found] = JSON.parse(await must(checkpointctl, 'inspect', '--all', '--format', 'json', archive)) as {
    process_tree?: { command: string };
    statistics?: object;
  }[];
  expect(found).toMatchObject({ process_tree: { command: 'sleep' }, statistics: expect.any(Object) as object });
});

it('is refused where something is already, and leaves nothing behind', async () => {
  const directory = join(scratch, 'taken');
  mkdirSync(directory);
  const before = readdirSync(scratch);
  await expect(writeImage({ archive, directory })).rejects.toMatchObject({
    code: 'OUTPUT_EXISTS',
    facts: { path: directory },
  });
  const damaged = join(scratch, 'damaged.tar');
  const bytes = readFileSync(archive);
  bytes[5000] = (bytes[5000] as number) ^ 1;
  writeFileSync(damaged, bytes);
  await expect(writeImage({ archive: damaged, directory: join(scratch, 'never') })).rejects.toMatchObject({
    name: 'ArchiveError',
  });
  rmSync(damaged);
  expect(readdirSync(scratch)).toEqual(before);
});
