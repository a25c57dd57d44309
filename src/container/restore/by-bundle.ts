import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { extractMembers } from '../../archive/index.js';
import { applyRootfs } from '../documents/apply-diff.js';
import { BundleRoot } from '../documents/bundle-root.js';
import { BundleSpec } from '../documents/bundle-spec.js';
import { members } from '../documents/documents.js';
import { ContainerError } from '../model/container-error.js';
import { launch, succeeds } from '../runtimes/command.js';
import { crunLayout } from '../runtimes/crun.js';
import { runcLayout } from '../runtimes/runc.js';
import { stateFileOf } from '../runtimes/state-file.js';
import { findContainer, type ContainerName } from '../runtimes/find-container.js';
import type { ContainerRestorePlan, RestoredContainer } from './plan.js';
import { withCriuLog } from './criu-log.js';

/**
 * runc and crun: the bundle's root file system is made what the container's was, and the runtime gets CRIU's images.
 * @throws ContainerError CONTAINER_EXISTS, BUNDLE_UNREADABLE, ROOTFS_MISSING, ROOTFS_NOT_EMPTY, RUNTIME_MISSING,
 * RUNTIME_FAILED; ArchiveError
 */
export async function restoreBundle({
  options,
  phases,
  verified,
  subject,
  privateDir,
  env,
  guardian,
  undo,
}: ContainerRestorePlan): Promise<RestoredContainer> {
  const { signal } = options;
  const command = options.runc === undefined ? 'crun' : 'runc';
  const id = (options.runc ?? options.crun) as string;
  const bundle = resolve(options.bundle as string);
  const imagesDir = join(privateDir, 'images');
  const root = options.stateRoot === undefined ? [] : ['--root', options.stateRoot];
  if (await succeeds(command, [...root, 'state', id]))
    throw new ContainerError('CONTAINER_EXISTS', { runtime: command, id });
  const spec = await BundleSpec.of(bundle, verified, options.keep ?? []);
  const { wholeRootfs = false, whiteouts = false } = subject.container;
  const rootfs = new BundleRoot(bundle, spec.rootfs);
  if (wholeRootfs) {
    await rootfs.requireEmpty(verified.archive.path);
    await guardian.knowDestination(spec.rootfs, rootfs.id);
    // Else a next try would not find it empty.
    undo.push(() => rootfs.clear());
  }
  await phases.run('extract', async () => {
    await mkdir(imagesDir, { mode: 0o700 });
    await extractMembers({ verified, prefix: members.images, images: true, destination: imagesDir, signal });
    await applyRootfs({ verified, rootfs: spec.rootfs, whiteouts, signal, hidden: guardian.hiddenNames });
  });
  guardian.willBeFinishedBy(stateFileOf(command === 'runc' ? runcLayout : crunLayout, id, options.stateRoot));
  if (spec.path !== undefined) guardian.willMakeNew(spec.path);
  undo.push(() => spec.discard());
  await spec.write();
  const flags = ['--detach', '--bundle', bundle, '--image-path', imagesDir, '--work-path', privateDir, '--file-locks'];
  if (subject.tcpEstablished) flags.push('--tcp-established');
  undo.push(async () => void (await succeeds(command, [...root, 'delete', '--force', id])));
  await phases.run('restore', () =>
    launch(command, [...root, 'restore', ...flags, id], {
      env,
      signal,
      logPath: join(privateDir, 'runtime.log'),
      onStarted: (pid) => guardian.knowCriu(pid),
    }).catch(async (error: unknown) => {
      throw await withCriuLog(error, join(privateDir, 'restore.log'), spec.dropped);
    }),
  );
  const container = await findContainer({ [command]: id, stateRoot: options.stateRoot, bundle } as ContainerName);
  return { container, dropped: spec.dropped, hostMounts: spec.hostMounts };
}
