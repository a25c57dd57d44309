import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ArchiveError, ArchiveWriter, Stage, type SealedArchive } from '../archive/index.js';
import {
  findCriu,
  needsTerminal,
  orderUnixSockets,
  readDumpStats,
  repairTimers,
  type DumpStats,
} from '../criu/index.js';
import { withoutLostLog } from './base/criu-log.js';
import { cancellation } from './base/cancellation.js';
import { Deadline } from './window/deadline.js';
import { withoutBreakingLeases } from './dump/leases.js';
import { DUMP_LOG, dumpOptions, explainDumpFailure, imagesBytes } from './dump/dump.js';
import { explainFailedPlace } from './base/failed-place.js';
import { FrozenWindow } from './window/frozen-window.js';
import { Guardian } from './guardian/guardian.js';
import { placeForImages } from './dump/images-place.js';
import { lockCgroup, lockTarget } from './guardian/lock.js';
import { CHECKPOINT_OPTIONS, refuseUnknown } from './option-names.js';
import { checkCheckpointOptions, type CheckpointOptions, type CheckpointSettings } from './options.js';
import { Phases } from './events/phases.js';
import { runningPids } from './base/pids.js';
import { preDump, PRE_DUMP_LOG, requireMemTrack, type PreDumps } from './dump/pre-dump.js';
import { placesFor, PrivateDir } from './base/private-dir.js';
import type { CheckpointReport } from './events/report.js';
import { passesByItself, withRetries } from './retry.js';
import { withUnixPeers } from './dump/unix-peers.js';
import { takeSnapshot } from './window/snapshot.js';
import { repeatedOptions, thisKernel, type Subject } from './base/recorded-target.js';
import { findFreezer, ReadyTarget } from './window/ready-target.js';
import { Warnings } from './warnings/warnings.js';

/**
 * Checkpoints a process tree into one archive: its memory by CRIU, its files as they stood in that same
 * instant.
 *
 * The tree runs on afterwards (`stop: true` ends it once the archive is safe on disk). It stands still only
 * for the frozen window: from the verified freeze, made when CRIU is ready to seize, to the verified thaw.
 * Whatever goes wrong, the tree is thawed (unless its cgroup was frozen before: then it is left so), and
 * neither a partial archive nor a temporary file is left.
 *
 * @throws FreezerError, CriuError, ArchiveError, CheckpointError: docs/errors.md says when each code comes
 */
export async function checkpoint(options: CheckpointOptions): Promise<CheckpointReport> {
  refuseUnknown(options, CHECKPOINT_OPTIONS);
  const settings = checkCheckpointOptions(options);
  options.signal?.throwIfAborted();
  const phases = new Phases('checkpoint', options);
  // A try leaves nothing behind, its staged copy neither: a copy that is proven current at one instant says nothing of
  // another.
  let { watchFromMs } = settings;
  return withRetries({ retries: settings.retries, phases, signal: options.signal }, async (attempt, isLast) => ({
    ...(await checkpointOnce(options, { ...settings, watchFromMs }, phases, isLast).catch((error: unknown) => {
      if (error instanceof ArchiveError && error.code === 'CHANGE_UNNOTICED') watchFromMs = Infinity;
      throw cancellation(explainFailedPlace(error), options.signal);
    })),
    attempts: attempt,
  }));
}

async function checkpointOnce(
  options: CheckpointOptions,
  settings: CheckpointSettings,
  phases: Phases,
  isLast: boolean,
): Promise<Omit<CheckpointReport, 'attempts'>> {
  const { signal } = options;
  const { stateDir } = settings;
  const createdAt = new Date().toISOString();
  const warnings = new Warnings(phases, settings.strict);

  const criu = await findCriu({ criuPath: options.criuPath, timeoutMs: settings.criuStartTimeoutMs });
  if (settings.preDump !== undefined)
    await requireMemTrack(criu.path, { signal, timeoutMs: settings.criuStartTimeoutMs });
  signal?.throwIfAborted();
  const freezer = await phases.run('resolve', () => findFreezer(options, signal));
  using journal = await phases.run('lock', () =>
    lockTarget({ pid: options.pid, cgroup: freezer && { version: freezer.version, path: freezer.path }, stateDir }),
  );
  signal?.throwIfAborted();
  await using guardian = await phases.run('guardian', () =>
    Guardian.arm({ journal, placeGuardianIn: settings.placeGuardianIn }),
  );
  signal?.throwIfAborted();
  await using target = await phases.run('adopt', () =>
    ReadyTarget.make(options, freezer, {
      onMaking: (path) => guardian.willMakeCgroup(path),
      onMade: async (cgroup) => {
        await lockCgroup(journal, cgroup, stateDir);
        await guardian.keepCgroup();
      },
      onHomes: (homes) => guardian.keepHomes(homes),
    }),
  );
  signal?.throwIfAborted();
  const running = runningPids(target.pid);
  await (settings.filesInUse ? target.takeFilesInUse(running, signal) : target.locateTrees(signal));
  warnings.add(...(await target.unusual(running)));
  warnings.add(...(await target.lostLocks(running, signal)));
  // What is written to may change until the freeze: there it is asked again, and counts.
  if (settings.strict) warnings.refuse(target.outside(running));
  const hidden = guardian.hiddenNames;
  await using writer = await ArchiveWriter.create({ ...settings.writer, hidden });
  const imagesPlaces =
    settings.workDir ??
    placesFor(settings.preDump === undefined ? placeForImages(target.pid, settings.diskDir) : settings.diskDir);
  await using scratch = await PrivateDir.make(imagesPlaces, hidden);
  const images = scratch.makeInner('images');
  const imagesDir = images.path;

  const stage = new Stage(writer, target.files, settings);
  if (settings.precopy) {
    await phases.run('precopy', () =>
      stage.precopy({
        mapped: () => target.mapped(runningPids(target.pid), signal),
        signal,
        onProgress: (work) => phases.progress('precopy', work),
      }),
    );
  }
  signal?.throwIfAborted();
  using deadline = new Deadline({
    maxFrozenMs: settings.maxFrozenMs,
    criuStartTimeoutMs: settings.criuStartTimeoutMs,
    signal,
    phase: () => phases.current,
  });
  let ahead: PreDumps | undefined;
  const plan = settings.preDump;
  // A frozen task writes nothing: there would be nothing to gain, and CRIU could not stop it.
  if (plan !== undefined && !target.freezer.state().frozen) {
    const onRound = ({ writtenBytes }: { writtenBytes: number }): void =>
      phases.progress('pre-dump', { done: writtenBytes, unit: 'bytes' });
    ahead = await phases
      .run('pre-dump', () =>
        preDump({
          criuPath: criu.path,
          pid: target.pid,
          imagesDir,
          workDir: scratch.path,
          plan,
          overrides: target.criu,
          deadline,
          onRound,
        }),
      )
      .catch(async (error: unknown) => {
        throw await withoutLostLog(error, join(scratch.path, PRE_DUMP_LOG), settings.criuLog);
      });
  }

  const window = new FrozenWindow(target.freezer, {
    freezeTimeoutMs: settings.freezeTimeoutMs,
    thawTimeoutMs: settings.thawTimeoutMs,
    signal: deadline.signal,
  });
  const pids = runningPids(target.pid);
  const leases = await withoutBreakingLeases(pids, {
    configFile: target.criu.configFile,
    directory: scratch.lastingPath,
  });
  const dump = dumpOptions({
    pid: target.pid,
    freezeCgroup: target.freezer.path,
    imagesDir: images.fd,
    workDir: scratch.fd,
    leaveRunning: !settings.stop,
    overrides: { ...target.criu, ...leases, ...ahead?.dump },
  });
  const neededBytes = imagesBytes(pids);

  let needs = false;
  /** With the tree's life at stake (`stop`) this runs before CRIU ends it, and then knows less. */
  const seal = (facts: Pick<Subject, 'windowMs'>, members: Subject['cgroup']['members']): Promise<SealedArchive> =>
    phases.run('seal', async () => {
      const subject: Subject = {
        kind: 'process-tree',
        createdAt,
        kernel: thisKernel(),
        criu: { version: criu.version },
        pid: target.pid,
        cgroup: { ...target.home, members },
        criuOptions: repeatedOptions(dump),
        ...facts,
        ...target.parts.subject,
        warnings: warnings.list,
      };
      needs = dump.shellJob === true && dump.orphanPtsMaster !== true && (await needsTerminal(imagesDir));
      // Here too, for restores by others, such as a runtime's.
      await repairTimers(imagesDir);
      await orderUnixSockets(imagesDir);
      const documents =
        (await target.parts.complete?.({
          imagesDir,
          livePaths: (name) => stage.livePaths(name),
          append: (name, entries) => writer.appendTo(name, entries),
        })) ?? [];
      await writer.addTree({ path: imagesDir, name: 'checkpoint' });
      for (const name of [DUMP_LOG, 'stats-dump']) {
        const document = await readOptional(join(scratch.path, name));
        if (document !== undefined) await writer.addDocument({ name, data: document });
      }
      for (const document of documents)
        await ('file' in document
          ? writer.addFile(document, { signal: deadline.signal })
          : writer.addDocument(document));
      return writer.seal({
        subject: { ...subject },
        signal: deadline.signal,
        onProgress: (work) => phases.progress('seal', work),
      });
    });

  let sealed: SealedArchive | undefined;
  const snapshot = await takeSnapshot({
    target,
    stage,
    window,
    phases,
    warnings,
    guardian,
    deadline,
    criuPath: criu.path,
    dump,
    beforeRelease: settings.stop
      ? async (members) => {
          sealed = await seal({}, members);
        }
      : undefined,
  }).catch(async (error: unknown) => {
    const explain = (reason: unknown): unknown =>
      explainDumpFailure(reason, { pid: target.pid, imagesDir, neededBytes });
    const isFinal = isLast || !passesByItself(explain(error));
    const lasting = await withoutLostLog(error, join(scratch.path, DUMP_LOG), isFinal ? settings.criuLog : undefined);
    throw await withUnixPeers(explain(lasting), target.pid);
  });
  sealed ??= await seal({ windowMs: snapshot.windowMs }, snapshot.members);

  return {
    archivePath: settings.outputPath,
    archiveBytes: sealed.bytes,
    pid: target.pid,
    pids: snapshot.members.map((member) => member.pid),
    cgroup: { version: target.freezer.version, path: target.freezer.path, adopted: options.adopt === true },
    windowMs: snapshot.windowMs,
    window: snapshot.parts,
    totalMs: phases.elapsedMs,
    phasesMs: phases.durationsMs,
    files: stage.copied,
    preDumps: ahead?.rounds ?? [],
    criuStats: await optionalStats(scratch.path),
    criu: { path: criu.path, version: criu.version },
    foundFrozen: window.foundFrozen,
    stopped: settings.stop,
    needsTerminal: needs,
    guardianLost: guardian.lost !== undefined,
    warnings: warnings.list,
  };
}

async function readOptional(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** CRIU's figures are for the report only: a CRIU that wrote none did not fail. */
async function optionalStats(workDir: string): Promise<DumpStats | undefined> {
  try {
    return await readDumpStats(workDir);
  } catch {
    return undefined;
  }
}
