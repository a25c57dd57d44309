import { mkdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { extractMembers, openArchive, type VerifiedArchive } from '../archive/index.js';
import { openFreezer } from '../cgroup/index.js';
import { Phases, type OnProgress, type OnWarning } from '../checkpoint/events/phases.js';
import { placesFor, PrivateDir } from '../checkpoint/base/private-dir.js';
import { Guardian } from '../checkpoint/guardian/guardian.js';
import { STATE_DIR } from '../state-dir.js';
import { journalRestore } from '../checkpoint/guardian/lock.js';
import { findChangedFiles } from '../checkpoint/warnings/find-changed-files.js';
import { restoreLocks, type LostLock } from '../checkpoint/restore/restore-locks.js';
import { mappedLocksNotHeld } from '../checkpoint/warnings/locks-on-mapped-files.js';
import { recordedWarnings } from '../checkpoint/warnings/recorded.js';
import { statesNotRestored } from '../checkpoint/warnings/task-state.js';
import { warning, type Warning } from '../checkpoint/warnings/warning.js';
import { Warnings } from '../checkpoint/warnings/warnings.js';
import { findCriu, readLastErrors } from '../criu/index.js';
import { applyRootfs } from './documents/apply-diff.js';
import { type AdaptedSpec, HOST_SETTINGS, type DroppedSetting, type HostSetting } from './documents/archived-spec.js';
import { archivedLocks } from './documents/archived-locks.js';
import { BundleRoot } from './documents/bundle-root.js';
import { BundleSpec } from './documents/bundle-spec.js';
import { launch, run } from './runtimes/command.js';
import { criuForRuntime } from './runtimes/criu-for-runtime.js';
import type { Container, RuntimeName } from './model/container.js';
import { ContainerError, type ContainerFacts } from './model/container-error.js';
import { members } from './documents/documents.js';
import { recordedContainer, type RecordedContainer } from './documents/recorded-container.js';
import { crunLayout } from './runtimes/crun.js';
import { runcLayout } from './runtimes/runc.js';
import { stateFileOf } from './runtimes/state-file.js';
import { findContainer, type ContainerName } from './runtimes/find-container.js';
import { CONTAINER_NAME, refuseUnknown } from './option-names.js';
import type { OptionNames } from '../bad-option.js';
import { verifyContainerArchive } from './documents/verify-container.js';

export interface ContainerRestoreOptions extends ContainerName {
  /**
   * How much a compressed archive may unpack to, in bytes. Default: nine tenths of what is free where it is unpacked.
   */
  maxUnpackedBytes?: number | undefined;
  /**
   * What `checkpointContainer` wrote. `runc`, `crun` or `podman` says by which runtime, and the new container's id or
   * name.
   */
  archive: string;
  /**
   * runc and crun: the new container's bundle. Its root file system holds the image; a missing config.json is written.
   */
  bundle?: string;
  /**
   * What to keep of a configuration that the archive brings along, for a bundle without config.json, although it
   * reaches out to this machine. Default: nothing of it; the report's `dropped` says what there was. Meaningless with
   * Podman, which reads the archive itself and takes what it says.
   */
  keep?: readonly HostSetting[] | undefined;
  /** Podman: the pod that the container goes into. */
  pod?: string | undefined;
  /** Podman: leave the volumes as they are, instead of putting back what the archive holds of them. */
  ignoreVolumes?: boolean | undefined;
  /** How long the thaw may take, in milliseconds. Default 5000. */
  thawTimeoutMs?: number;
  /** Where CRIU's images are unpacked to, as in RestoreOptions. Default: the archive's directory, or /var/tmp. */
  workDir?: string | undefined;
  criuPath?: string | undefined;
  /** As in CheckpointOptions. */
  placeGuardianIn?: string | undefined;
  stateDir?: string | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: OnProgress | undefined;
  /** As in CheckpointOptions. */
  strict?: boolean | undefined;
  onWarning?: OnWarning | undefined;
}

const OPTIONS: OptionNames<ContainerRestoreOptions> = {
  ...CONTAINER_NAME,
  archive: true,
  maxUnpackedBytes: true,
  keep: true,
  pod: true,
  ignoreVolumes: true,
  thawTimeoutMs: true,
  workDir: true,
  criuPath: true,
  placeGuardianIn: true,
  stateDir: true,
  signal: true,
  onProgress: true,
  strict: true,
  onWarning: true,
};

export interface ContainerRestoreReport {
  runtime: RuntimeName;
  id: string;
  name: string;
  pid: number;
  /** What was left out of the configuration that the archive brought along: empty where the bundle had its own. */
  dropped: DroppedSetting[];
  /** Bind mounts of the container whose files were not in the archive: they are as this machine has them. */
  leftOut: { source: string; destination: string }[];
  /** What is not as it was at the checkpoint. With `strict` none. */
  warnings: Warning[];
  totalMs: number;
  phasesMs: Phases['durationsMs'];
}

/** How long a runtime may go on without us. */
const RUNTIME_MS = 30_000;

/**
 * Restores a container from an archive, through its runtime: so it is one of that runtime's containers again. The
 * archive is verified before anything is changed, and the container is seen running at the end.
 *
 * When this process dies meanwhile, the runtime ends what it has begun, for up to half a minute; then its guardian
 * removes the images.
 *
 * runc, crun: the bundle's root file system is made what the container's was. It stays so when the restore fails, but
 * for an archive of a whole root file system, whose root has to be empty, and is then empty again; a config.json that
 * was written does not stay.
 * @throws ArchiveError, ContainerError NOT_A_CONTAINER_CHECKPOINT, FOREIGN_CHECKPOINT, CONTAINER_EXISTS,
 * RUNTIME_MISSING, RUNTIME_FAILED, BUNDLE_UNREADABLE, ROOTFS_MISSING, ROOTFS_NOT_EMPTY, BAD_OPTION, FreezerError
 */
export async function restoreContainer(options: ContainerRestoreOptions): Promise<ContainerRestoreReport> {
  refuseUnknown(options, OPTIONS);
  const { signal } = options;
  const phases = new Phases('restore', options);
  const warnings = new Warnings(phases, options.strict ?? false);
  const besideArchive = dirname(resolve(options.archive));
  const workDir = options.workDir === undefined ? undefined : resolve(options.workDir);
  checkOptions(options);
  signal?.throwIfAborted();

  const criu = await findCriu({ criuPath: options.criuPath });
  await using archive = await openArchive(options.archive, {
    tmpDir: workDir ?? besideArchive,
    maxUnpackedBytes: options.maxUnpackedBytes,
    signal,
  });
  const verified = await phases.run('verify', () =>
    verifyContainerArchive(archive, {
      signal,
      onProgress: ({ bytes, totalBytes }) =>
        phases.progress('verify', { done: bytes, total: totalBytes, unit: 'bytes' }),
    }),
  );
  const subject = recordedContainer(verified);
  const recorded = recordedWarnings(verified.manifest.subject);
  const changed = await findChangedFiles(recorded, signal);
  if (changed.length > 0) warnings.add(warning('FILES_CHANGED', { files: changed }));
  using journal = journalRestore(resolve(options.archive), resolve(options.stateDir ?? STATE_DIR));
  await using guardian = await phases.run('guardian', () =>
    Guardian.arm({ journal, placeGuardianIn: options.placeGuardianIn, criuTimeoutMs: RUNTIME_MS }),
  );
  await using scratch = await PrivateDir.make(workDir ?? placesFor(besideArchive), guardian.hiddenNames);
  const locks = await archivedLocks(verified, scratch.path);
  let lostLocks: LostLock[] = [];
  await using criuInPath = await criuForRuntime(
    scratch.path,
    criu.path,
    locks.some(({ kind }) => kind === 'posix')
      ? async (root) => {
          lostLocks = await restoreLocks(locks, root);
        }
      : undefined,
  );
  const { env } = criuInPath;
  const plan: Plan = { options, phases, verified, subject, scratch: scratch.path, env, guardian };
  const { container, dropped, hostMounts, remove } = await (options.podman === undefined
    ? restoreBundle(plan)
    : restorePodman(plan));
  try {
    const [restoredBy, lost] = criuInPath.isDone
      ? (['stillframe', lostLocks] as const)
      : (['runtime', await mappedLocksNotHeld(locks, container.pid, signal)] as const);
    if (lost.length > 0) warnings.add(warning('LOCKS_LOST', { locks: [...lost], restoredBy }));
    const states = await statesNotRestored(recorded, container.pid);
    if (states.length > 0) warnings.add(warning('STATE_LOST', { states }));
  } catch (error) {
    await remove();
    throw error;
  }
  // A container that was frozen when it was dumped, or whose image says so, would otherwise stand still.
  const freezer =
    container.cgroup === undefined ? openFreezer({ pid: container.pid }) : openFreezer({ cgroup: container.cgroup });
  await phases.run('thaw', () => freezer.thaw({ timeoutMs: options.thawTimeoutMs ?? 5000 }));
  const { runtime, id, name, pid } = container;
  // Also those that the manifest keeps silent about.
  const { leftOut = [] } = subject.container;
  const unsaid = hostMounts.filter(({ destination }) => !leftOut.some((said) => said.destination === destination));
  return {
    runtime,
    id,
    name,
    pid,
    dropped,
    leftOut: [...leftOut, ...unsaid],
    warnings: warnings.list,
    totalMs: phases.elapsedMs,
    phasesMs: phases.durationsMs,
  };
}

interface Plan {
  options: ContainerRestoreOptions;
  phases: Phases;
  verified: VerifiedArchive;
  subject: RecordedContainer;
  scratch: string;
  env: NodeJS.ProcessEnv;
  guardian: Guardian;
}

interface Restored {
  container: Container;
  dropped: DroppedSetting[];
  hostMounts: AdaptedSpec['hostMounts'];
  /** Undoes the restore, as after a failed one. */
  remove(): Promise<void>;
}

async function restoreBundle({ options, phases, verified, subject, scratch, env, guardian }: Plan): Promise<Restored> {
  const { signal } = options;
  const command = options.runc === undefined ? 'crun' : 'runc';
  const id = (options.runc ?? options.crun) as string;
  const bundle = resolve(options.bundle as string);
  const imagesDir = join(scratch, 'images');
  const root = options.stateRoot === undefined ? [] : ['--root', options.stateRoot];
  if (await succeeds(command, [...root, 'state', id]))
    throw new ContainerError('CONTAINER_EXISTS', { runtime: command, id });
  const spec = await BundleSpec.of(bundle, verified, options.keep ?? []);
  const { wholeRootfs = false, whiteouts = false } = subject.container;
  const rootfs = new BundleRoot(bundle, spec.rootfs);
  if (wholeRootfs) {
    await rootfs.requireEmpty(verified.archive.path);
    await guardian.knowDestination(spec.rootfs, rootfs.id);
  }
  const undo = async (): Promise<void> => {
    await spec.discard();
    // Else a next try would not find it empty.
    if (wholeRootfs) await rootfs.clear();
  };
  const remove = async (): Promise<void> => {
    await succeeds(command, [...root, 'delete', '--force', id]);
    await undo();
  };
  try {
    await phases.run('extract', async () => {
      await mkdir(imagesDir, { mode: 0o700 });
      await extractMembers({ verified, prefix: members.images, images: true, destination: imagesDir, signal });
      await applyRootfs({ verified, rootfs: spec.rootfs, whiteouts, signal, hidden: guardian.hiddenNames });
    });
    guardian.willBeFinishedBy(stateFileOf(command === 'runc' ? runcLayout : crunLayout, id, options.stateRoot));
    if (spec.path !== undefined) guardian.willMakeNew(spec.path);
    await spec.write();
  } catch (error) {
    await undo();
    throw error;
  }
  const flags = ['--detach', '--bundle', bundle, '--image-path', imagesDir, '--work-path', scratch, '--file-locks'];
  if (subject.tcpEstablished) flags.push('--tcp-established');
  await phases.run('restore', () =>
    launch(command, [...root, 'restore', ...flags, id], {
      env,
      signal,
      logPath: join(scratch, 'runtime.log'),
      onStarted: (pid) => guardian.knowCriu(pid),
    }).catch(async (error: unknown) => {
      await remove();
      throw await withFacts(error, join(scratch, 'restore.log'), spec.dropped);
    }),
  );
  const container = await findContainer({ [command]: id, stateRoot: options.stateRoot, bundle } as ContainerName);
  return { container, dropped: spec.dropped, hostMounts: spec.hostMounts, remove };
}

async function restorePodman({ options, phases, subject, env, guardian }: Plan): Promise<Restored> {
  const name = options.podman as string;
  const { podmanOptions = [], pod, ignoreVolumes = false, signal } = options;
  const podman = [...podmanOptions, 'container'];
  const isRenamed = name !== subject.container.name;
  // Under its old name it gets its old id, too.
  for (const taken of isRenamed ? [name] : [name, subject.container.id])
    if (await succeeds('podman', [...podman, 'exists', taken]))
      throw new ContainerError('CONTAINER_EXISTS', { runtime: 'podman', id: taken });
  const flags = ['--import', resolve(options.archive), '--file-locks'];
  if (isRenamed) flags.push('--name', name);
  if (pod !== undefined) flags.push('--pod', pod);
  if (ignoreVolumes) flags.push('--ignore-volumes');
  if (subject.tcpEstablished) flags.push('--tcp-established');
  await phases.run('restore', () =>
    run('podman', [...podman, 'restore', ...flags], {
      env,
      signal,
      onStarted: (pid) => guardian.knowCriu(pid),
    }).catch(async (error: unknown) => {
      throw await withoutContainer(error, name, podman);
    }),
  );
  const remove = async (): Promise<void> => {
    await succeeds('podman', [...podman, 'rm', '--force', name]);
  };
  return { container: await findContainer({ podman: name, podmanOptions }), dropped: [], hostMounts: [], remove };
}

/**
 * Podman leaves the container behind that it could not bring to life, and CRIU's log in its directory: says why, and
 * removes it.
 */
async function withoutContainer(error: unknown, name: string, podman: readonly string[]): Promise<unknown> {
  const { stdout } = await run('podman', [...podman, 'inspect', '--format', '{{.StaticDir}}', name]).catch(() => ({
    stdout: '',
  }));
  if (stdout.trim() === '') return error;
  const explained = await withFacts(error, join(stdout.trim(), 'restore.log'));
  await succeeds('podman', [...podman, 'rm', '--force', name]);
  return explained;
}

function checkOptions({ runc, crun, podman, bundle, keep = [], pod, ignoreVolumes }: ContainerRestoreOptions): void {
  const given = [runc, crun, podman].filter((name) => name !== undefined);
  if (given.length !== 1)
    throw new ContainerError('BAD_OPTION', {
      option: 'runc, crun, podman',
      value: given.join(', ') || undefined,
      expected: 'exactly one of them',
    });
  const unknown = keep.find((setting) => !HOST_SETTINGS.includes(setting));
  if (unknown !== undefined || (keep.length > 0 && podman !== undefined))
    throw new ContainerError('BAD_OPTION', {
      option: 'keep',
      value: unknown ?? keep.join(', '),
      expected: `${HOST_SETTINGS.join(', ')}, for runc or crun`,
    });
  for (const [option, value] of Object.entries({ pod, ignoreVolumes }))
    if (podman === undefined && value !== undefined)
      throw new ContainerError('BAD_OPTION', { option, value, expected: 'nothing without `podman`' });
  if (podman === undefined && bundle === undefined)
    throw new ContainerError('BAD_OPTION', {
      option: 'bundle',
      value: undefined,
      expected: "the new container's bundle directory",
    });
}

async function succeeds(command: string, args: readonly string[]): Promise<boolean> {
  try {
    await run(command, args);
    return true;
  } catch (error) {
    if (error instanceof ContainerError && error.code === 'RUNTIME_FAILED') return false;
    throw error;
  }
}

/**
 * What CRIU said, where the runtime only says that it failed; and what the container had to do without, which may be
 * why.
 */
async function withFacts(error: unknown, logPath: string, dropped?: DroppedSetting[]): Promise<unknown> {
  if (!(error instanceof ContainerError) || !('stderr' in error.facts)) return error;
  const lines = await readLastErrors(logPath).catch(() => []);
  const { command, status, stderr } = error.facts as ContainerFacts['RUNTIME_FAILED'];
  return new ContainerError('RUNTIME_FAILED', {
    command,
    status,
    stderr: [stderr, ...lines].join('\n'),
    ...(dropped === undefined ? {} : { dropped }),
    cause: error.cause,
  });
}
