import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ContainerdHome } from '../homes/containerd-home.js';
import type { PodmanHome } from '../homes/podman-home.js';
import type { RuncHome } from '../homes/runc-home.js';
import { findProgram, run } from '../run.js';
import { fileBytes, type Scenario } from '../scenarios.js';
import { criuMs } from './by-hand.js';
import type { Contender } from './contender.js';

const GiB = 2 ** 30;

function needs(...programs: string[]): (scenario: Scenario) => string | undefined | null {
  return (scenario) => {
    if (!scenario.peers) return null;
    const missing = programs.filter((name) => findProgram(name) === undefined);
    return missing.length === 0 ? undefined : `${missing.join(', ')} is not installed`;
  };
}

/** CRI-O's order: pause, checkpoint, write the archive, resume. */
export const runcInOrder: Contender<RuncHome> = {
  name: "CRI-O's order: runc pause, checkpoint, GNU tar, resume",
  missing: (scenario) =>
    needs('runc', 'tar')({ ...scenario, peers: scenario.peers || scenario.container !== undefined }),
  async checkpoint({ id, filesDir, criuDir }, outDir) {
    const images = join(outDir, 'images');
    const archive = join(outDir, 'archive.tar');
    await mkdir(images);
    await run('runc', ['pause', id]);
    try {
      await run('runc', ['checkpoint', '--leave-running', '--image-path', images, '--work-path', images, id], {
        pathFirst: criuDir,
      });
      await run('tar', ['--create', '--file', archive, '--directory', images, '.', '--directory', filesDir, '.']);
    } finally {
      await run('runc', ['resume', id]);
    }
    return { archiveBytes: (await stat(archive)).size, criuMs: await criuMs(images) };
  },
};

/** Podman archives the files after the container has run on: a short gap, and files of another time than the memory. */
export const podmanCheckpoint: Contender<PodmanHome> = {
  name: 'podman container checkpoint -R -e (files copied after the thaw)',
  missing: needs('podman', 'runc'),
  async checkpoint(home, outDir) {
    const archive = join(outDir, 'archive.tar');
    await home.podman([
      'container',
      'checkpoint',
      '--leave-running',
      '--compress',
      'none',
      '--export',
      archive,
      home.id,
    ]);
    return { archiveBytes: (await stat(archive)).size };
  },
};

/** containerd compresses the files inside the pause, and keeps the checkpoint in its own store. */
export const containerdCheckpoint: Contender<ContainerdHome> = {
  name: 'ctr containers checkpoint --rw --task',
  missing: (scenario) =>
    fileBytes(scenario) > GiB ? 'left out above 1 GiB, a round takes minutes' : needs('ctr', 'runc')(scenario),
  maxRuns: (scenario) => (fileBytes(scenario) >= GiB / 16 ? 3 : Infinity),
  async checkpoint({ id }) {
    const image = `localhost/${id}:checkpoint`;
    const start = performance.now();
    await run('ctr', ['containers', 'checkpoint', '--rw', '--task', id, image]);
    const totalMs = performance.now() - start;
    await run('ctr', ['image', 'remove', '--sync', image]);
    return { totalMs };
  },
};
