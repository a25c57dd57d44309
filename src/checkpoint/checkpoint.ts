import { join } from 'node:path';
import { ArchiveError, ArchiveWriter, Stage } from '../archive/index.js';
import {
  CriuError,
  doubtCriu,
  findCriu,
  helperEnvironment,
  readDumpStats,
  type CriuBinary,
  type DumpStats,
} from '../criu/index.js';
import { withoutLostLog } from './base/criu-log.js';
import { cancellation } from './base/cancellation.js';
import { pidForCriu, targetInCopy } from './clone/copy-target.js';
import { Deadline } from './window/deadline.js';
import { withoutBreakingLeases } from './dump/leases.js';
import { DUMP_LOG, dumpOptions, explainDumpFailure } from './dump/dump.js';
import { explainFailedPlace } from './base/failed-place.js';
import { FrozenWindow } from './window/frozen-window.js';
import { imagesBytes, placeForImages } from './dump/images-place.js';
import { CHECKPOINT_OPTIONS, refuseUnknown } from './option-names.js';
import { checkCheckpointOptions, type CheckpointOptions, type CheckpointSettings } from './options.js';
import { Phases } from './events/phases.js';
import { runningPids, runningTree } from './base/pids.js';
import { preDump, PRE_DUMP_LOG, requireMemTrack, type PreDumps } from './dump/pre-dump.js';
import { placesFor, PrivateDir } from './base/private-dir.js';
import type { CheckpointReport } from './events/report.js';
import { passesByItself, withRetries } from './retry.js';
import { withUnixPeers } from './dump/unix-peers.js';
import { takeSnapshot } from './window/snapshot.js';
import { withHeldTarget, type HeldTarget } from './hold-target.js';
import { seal } from './seal.js';
import type { ReadyTarget } from './window/ready-target.js';
import { noteCheckpoint } from './program/names.js';
import { warnOfIdlePatterns } from './warnings/idle-patterns.js';
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
export async function checkpoint(given: CheckpointOptions): Promise<CheckpointReport> {
  refuseUnknown(given, CHECKPOINT_OPTIONS);
  const settings = checkCheckpointOptions(given);
  const options = targetInCopy(given);
  options.signal?.throwIfAborted();
  const phases = new Phases('checkpoint', options);
  // A try leaves nothing behind, its staged copy neither: a copy that is proven current at one instant says nothing of
  // another.
  let { watchFromMs } = settings;
  return withRetries({ retries: settings.retries, phases, signal: options.signal }, async (attempt, isLast) => ({
    ...(await checkpointOnce({ options, settings: { ...settings, watchFromMs }, phases, isLast }).catch(
      (error: unknown) => {
        if (error instanceof ArchiveError && error.code === 'CHANGE_UNNOTICED') watchFromMs = Infinity;
        throw cancellation(explainFailedPlace(error), options.signal);
      },
    )),
    attempts: attempt,
  }));
}

/** One try. */
interface Attempt {
  options: CheckpointOptions;
  settings: CheckpointSettings;
  phases: Phases;
  /** None follows, whatever becomes of it. */
  isLast: boolean;
}

type AttemptReport = Omit<CheckpointReport, 'attempts'>;

async function checkpointOnce(attempt: Attempt): Promise<AttemptReport> {
  const { options, settings } = attempt;
  const call = { timeoutMs: settings.criuStartTimeoutMs, signal: options.signal };
  const createdAt = new Date().toISOString();
  const criu = await findCriu({ criuPath: options.criuPath, stateDir: settings.stateDir, ...call });
  if (settings.preDump !== undefined) await requireMemTrack(criu.path, call);
  try {
    return await withHeldTarget(attempt, (held) => checkpointHeld(held, { ...attempt, createdAt, criu }));
  } catch (error) {
    if (error instanceof CriuError) await doubtCriu(settings.stateDir);
    throw error;
  }
}

/** The target is held: its warnings, then its files and memory as far as they can be copied ahead, then the instant. */
async function checkpointHeld(
  { target, pids, guardian }: HeldTarget,
  attempt: Attempt & { createdAt: string; criu: CriuBinary },
): Promise<AttemptReport> {
  const { options, settings, phases, criu, createdAt } = attempt;
  const warnings = new Warnings(phases, settings.strict);
  await warnAhead(target, pids, attempt, warnings);

  const hidden = guardian.hiddenNames;
  await using writer = await ArchiveWriter.create({ ...settings.writer, hidden });
  await using privateDir = await PrivateDir.make(placesOfImages(settings, pids), hidden);
  const images = privateDir.makeInner('images');
  const stage = new Stage(writer, target.files, settings);
  if (settings.precopy) {
    await precopy(stage, target, attempt);
    // What is there now may be gone in the instant that counts: there it is asked again.
    warnings.refuse(warnOfIdlePatterns(stage.patternUses()));
  }
  options.signal?.throwIfAborted();

  using deadline = new Deadline({
    maxFrozenMs: settings.maxFrozenMs,
    criuStartTimeoutMs: settings.criuStartTimeoutMs,
    signal: options.signal,
    phase: () => phases.current,
  });
  const place = { imagesDir: images.path, workDir: privateDir.path };
  const ahead = await writeMemoryAhead({ target, deadline, place }, attempt);

  const window = new FrozenWindow(target.freezer, {
    freezeTimeoutMs: settings.freezeTimeoutMs,
    thawTimeoutMs: settings.thawTimeoutMs,
    signal: deadline.signal,
  });
  // Much may have happened since the target was found: the copies take as long as they take.
  const tree = runningTree(target.pid);
  const treePids = tree.map(({ pid }) => pid);
  const leases = await withoutBreakingLeases(treePids, {
    configFile: target.criu.configFile,
    directory: target.parts.inside === undefined ? privateDir.lastingPath : privateDir.path,
  });
  const dump = dumpOptions({
    pid: pidForCriu(target.pid, target),
    tree,
    freezeCgroup: target.freezer.path,
    imagesDir: images.fd,
    workDir: privateDir.fd,
    leaveRunning: !settings.stop,
    overrides: { ...target.criu, ...leases, ...ahead?.dump },
  });
  const neededBytes = imagesBytes(treePids);
  const sealPlan = {
    ...{ target, stage, writer, dump, createdAt, warnings, phases, ...place },
    criuVersion: criu.version,
    signal: deadline.signal,
  };

  const snapshot = await takeSnapshot({
    ...{ target, stage, window, phases, warnings, guardian, deadline, dump },
    onFrozen: options.onFrozen,
    criuPath: criu.path,
    criuEnv: settings.criuHelpers ? helperEnvironment() : undefined,
    // The tree's life is at stake: the archive is sealed before CRIU ends it, and then knows less.
    sealBeforeEnd: settings.stop ? (members) => phases.run('seal', () => seal(sealPlan, { members })) : undefined,
  }).catch(async (error: unknown) => {
    throw await explained(error, { pid: target.pid, neededBytes, ...place }, attempt);
  });
  const { members, recorded, windowMs, parts } = snapshot;
  const sealed = snapshot.sealed ?? (await phases.run('seal', () => seal(sealPlan, { members: recorded, windowMs })));
  if (settings.outputPath !== undefined)
    noteCheckpoint(target, { at: createdAt, archivePath: settings.outputPath }, settings.stateDir);

  return {
    archivePath: settings.outputPath,
    ...sealed,
    pid: target.pid,
    pids: members.map(({ pid }) => pid),
    cgroup: { version: target.freezer.version, path: target.freezer.path, adopted: options.adopt === true },
    windowMs,
    window: parts,
    totalMs: phases.elapsedMs,
    phasesMs: phases.durationsMs,
    files: stage.copied,
    preDumps: ahead?.rounds ?? [],
    criuStats: await optionalStats(privateDir.path),
    criu: { path: criu.path, version: criu.version },
    foundFrozen: window.foundFrozen,
    stopped: settings.stop,
    guardianLost: guardian.lost !== undefined,
    warnings: warnings.list,
  };
}

/** What can be said of the running target; with `filesInUse` it gets its further trees. */
async function warnAhead(
  target: ReadyTarget,
  pids: readonly number[],
  { options: { signal }, settings }: Attempt,
  warnings: Warnings,
): Promise<void> {
  await (settings.filesInUse ? target.takeFilesInUse(pids, signal) : target.locateTrees(signal));
  warnings.add(...(target.parts.warnings ?? []));
  warnings.add(...(await target.unusual(pids)));
  warnings.add(...(await target.lostLocks(pids, signal)));
  // What is written to may change until the freeze: there it is asked again, and counts.
  if (settings.strict) warnings.refuse(target.outside(pids));
}

function placesOfImages({ workDir, preDump: plan, diskDir }: CheckpointSettings, pids: readonly number[]) {
  return workDir ?? placesFor(plan === undefined ? placeForImages(imagesBytes(pids), diskDir) : diskDir);
}

async function precopy(stage: Stage, target: ReadyTarget, { options: { signal }, phases }: Attempt): Promise<void> {
  await phases.run('precopy', () =>
    stage.precopy({
      // Of the tree as it is in that pass: what a process maps that is gone by the freeze is seen only here.
      mapped: () => target.mapped(runningPids(target.pid), signal),
      signal,
      onProgress: (work) => phases.progress('precopy', work),
    }),
  );
}

interface ImagesPlace {
  imagesDir: string;
  workDir: string;
}

/** A frozen task writes nothing: there would be nothing to gain, and CRIU could not stop it. */
async function writeMemoryAhead(
  { target, deadline, place }: { target: ReadyTarget; deadline: Deadline; place: ImagesPlace },
  { settings: { preDump: plan, criuLog }, phases, criu }: Attempt & { criu: CriuBinary },
): Promise<PreDumps | undefined> {
  if (plan === undefined || target.freezer.state().frozen) return undefined;
  try {
    return await phases.run('pre-dump', () =>
      preDump({
        ...{ plan, deadline, ...place },
        criuPath: criu.path,
        pid: target.pid,
        overrides: target.criu,
        onRound: ({ writtenBytes }) => phases.progress('pre-dump', { done: writtenBytes, unit: 'bytes' }),
      }),
    );
  } catch (error) {
    throw await withoutLostLog(error, join(place.workDir, PRE_DUMP_LOG), criuLog);
  }
}

/** Why there is no snapshot, and where CRIU's log is: it is kept of the last try only. */
async function explained(
  error: unknown,
  place: ImagesPlace & { pid: number; neededBytes: number },
  { settings: { criuLog }, isLast }: Attempt,
): Promise<unknown> {
  const isFinal = isLast || !passesByItself(explainDumpFailure(error, place));
  const lasting = await withoutLostLog(error, join(place.workDir, DUMP_LOG), isFinal ? criuLog : undefined);
  return withUnixPeers(explainDumpFailure(lasting, place), place.pid);
}

/** CRIU's figures are for the report only: a CRIU that wrote none did not fail. */
async function optionalStats(workDir: string): Promise<DumpStats | undefined> {
  try {
    return await readDumpStats(workDir);
  } catch {
    return undefined;
  }
}
