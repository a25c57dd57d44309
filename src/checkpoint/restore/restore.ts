import { join } from 'node:path';
import {
  openArchive,
  refuseOccupied,
  type Destination,
  type OpenArchive,
  type VerifiedArchive,
} from '../../archive/index.js';
import { CriuError, doubtCriu, findCriu, type CriuBinary } from '../../criu/index.js';
import { cancellation } from '../base/cancellation.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { withoutLostLog } from '../base/criu-log.js';
import { explainFailedPlace } from '../base/failed-place.js';
import { runningPids } from '../base/pids.js';
import { placesFor, PrivateDir } from '../base/private-dir.js';
import { parseSubject } from '../base/recorded-target.js';
import { placeForImages } from '../dump/images-place.js';
import { Phases } from '../events/phases.js';
import type { RestoreReport } from '../events/report.js';
import { cloneTree } from '../clone/clone.js';
import { isDirectory } from '../clone/copy-source.js';
import { Guardian } from '../guardian/guardian.js';
import { journalRestore } from '../guardian/lock.js';
import { refuseUnknown, RESTORE_OPTIONS } from '../option-names.js';
import { checkRestoreOptions, type RestoreOptions, type RestoreSettings } from '../options.js';
import { RestoredName } from '../program/restored.js';
import { findChangedFiles } from '../warnings/find-changed-files.js';
import { findMovedTrees } from '../warnings/moved-trees.js';
import { recordedWarnings } from '../warnings/recorded.js';
import { warning } from '../warnings/warning.js';
import { Warnings } from '../warnings/warnings.js';
import { checkOpenFiles } from './check-open-files.js';
import { excludedFrom, extractTrees, ownPlaces, settled, takePlaces, treeDestinations } from './destinations.js';
import { giveAddresses } from './new-addresses.js';
import { cgroupFor, prepareCgroup } from './restore-cgroup.js';
import { verifyAndUnpack } from './one-pass.js';
import { RESTORE_LOG, runTree, type TreePlan } from './restore-tree.js';
import { StagedTrees } from './staged-trees.js';
import { terminalFor } from './terminal.js';
import { Undo } from './undo.js';
import { idsOf } from './unpack-images.js';
import { waitForPids } from './wait-pids.js';

/**
 * Brings a checkpointed process tree back: verifies the archive, puts its file trees where they were (or
 * where `files` says), restores the tree with CRIU into its cgroup, and thaws it with verification.
 *
 * Nothing on the system is changed before the archive has been verified whole: until then there are hidden directories,
 * which nobody else can enter, for CRIU's images and beside the destinations for the file trees, and nothing else. When
 * something fails, what was extracted and made is removed again; by the guardian, when this process dies.
 *
 * @throws ArchiveError, CheckpointError, CriuError, FreezerError: docs/errors.md says when each code comes
 */
export async function restore(options: RestoreOptions): Promise<RestoreReport> {
  refuseUnknown(options, RESTORE_OPTIONS);
  const settings = checkRestoreOptions(options);
  options.signal?.throwIfAborted();
  const { clone, source } = settings;
  if (clone === undefined && isDirectory(source)) throw new CheckpointError('CLONE_NEEDED', { dir: source });
  const work = clone === undefined ? restoreOnce(options, settings) : cloneTree(options, settings, clone);
  return work.catch((error: unknown) => {
    throw cancellation(explainFailedPlace(error), options.signal);
  });
}

/**
 * Reads and waits; what is made in the meantime is private and goes with its scope. Then `bringBack`, which can be
 * undone.
 */
async function restoreOnce(options: RestoreOptions, settings: RestoreSettings): Promise<RestoreReport> {
  const { signal } = options;
  const phases = new Phases('restore', options);
  const warnings = new Warnings(phases, settings.strict);

  const criu = await findCriu({ criuPath: options.criuPath, stateDir: settings.stateDir, signal });
  await using archive = await openArchive(settings.source, {
    name: settings.archive,
    tmpDir: settings.workDir ?? settings.besideArchive,
    maxUnpackedBytes: options.maxUnpackedBytes,
    signal,
  });
  using journal = journalRestore(settings.archive, settings.stateDir);
  await using guardian = await phases.run('guardian', () =>
    Guardian.arm({ journal, placeGuardianIn: settings.placeGuardianIn, signal }),
  );
  await using privateDir = await PrivateDir.make(placesOfImages(archive, settings), guardian.hiddenNames);
  await using staged = await StagedTrees.plan(archive, settings, guardian);
  const unpacked = await phases.run('verify', () =>
    verifyAndUnpack(archive, privateDir, staged, { signal, onProgress: phases.bytesOf('verify') }),
  );
  const { verified } = unpacked;
  const subject = parseSubject(verified.manifest.subject, settings.archive);
  const destinations = treeDestinations(verified, settings);
  const places = await ownPlaces(destinations);
  using name = await RestoredName.take(subject, places, { name: options.name, stateDir: settings.stateDir, signal });
  if (settings.replaceFiles === undefined) await refuseOccupied(verified, destinations);
  const images = await unpacked.images();
  await giveAddresses(images.path, settings.replaceAddresses);
  const recorded = recordedWarnings(verified.manifest.subject);
  const changed = await findChangedFiles(recorded, signal);
  if (changed.length > 0) warnings.add(warning('FILES_CHANGED', { files: changed }));
  const moved = findMovedTrees(verified.manifest, destinations, images.files);
  if (moved.length > 0) warnings.add(warning('TREE_ELSEWHERE', { trees: moved }));
  const terminal = await terminalFor(images.path, subject, settings, options);
  const ids = idsOf(images.processes);
  await phases.run('wait-pids', () => waitForPids(ids, settings.pidTimeoutMs, signal));
  // In a pid namespace of its own a tree has other pids here: CRIU tells its root's as soon as it is made.
  if (images.processes.every(({ pid }) => pid !== 1)) guardian.willTakePids(ids);

  const undo = new Undo();
  try {
    const plan = { subject, images, privateDir, recorded, terminal, guardian, phases, warnings, options, settings };
    return await bringBack({ ...plan, criu, verified, destinations, places, staged, name }, undo);
  } catch (error) {
    if (error instanceof CriuError) await doubtCriu(settings.stateDir);
    const lasting = await withoutLostLog(error, join(privateDir.path, RESTORE_LOG), settings.criuLog);
    // What could not be undone is tried again by the guardian.
    throw await undo.after(lasting, () => guardian.closeWindow());
  }
}

/** In memory where they fit, as those of a checkpoint: they are read at once, and then removed. */
function placesOfImages({ bytes }: OpenArchive, { workDir, besideArchive }: RestoreSettings): string | string[] {
  return workDir ?? placesFor(placeForImages(bytes, besideArchive));
}

interface RestorePlan extends Omit<TreePlan, 'criuPath' | 'cgroup'> {
  criu: CriuBinary;
  verified: VerifiedArchive;
  destinations: readonly [name: string, destination: Destination][];
  places: ReadonlyMap<string, string>;
  staged: StagedTrees;
  name: RestoredName | undefined;
}

/** The files, the cgroup, the tree. */
async function bringBack(plan: RestorePlan, undo: Undo): Promise<RestoreReport> {
  const { criu, images, guardian, phases, warnings, settings, name } = plan;
  const replacements = await phases.run('extract', () => extractTrees(plan, undo));
  if (replacements.length > 0) await phases.run('replace', () => takePlaces(replacements));
  await name?.prepareLog(images.files, undo);
  await phases.run('check-files', () => checkOpenFiles(images.files));
  const cgroup = cgroupFor(plan.subject, settings);
  const made = cgroup === undefined ? undefined : await prepareCgroup(cgroup, guardian, undo);
  const { pid, watch } = await runTree({ ...plan, criuPath: criu.path, cgroup }, undo);
  name?.give(pid, cgroup, made !== undefined);
  guardian.keepRestored();
  undo.forget();
  const replaced = replacements.length === 0 ? [] : await phases.run('settle', () => settled(replacements));
  return {
    ended: (waiting) => watch.ended(waiting),
    pid,
    pids: runningPids(pid),
    name: name?.name,
    cgroup,
    excluded: excludedFrom(plan.verified.manifest.trees),
    hasTerminal: plan.terminal !== undefined,
    replaced,
    warnings: warnings.list,
    totalMs: phases.elapsedMs,
    phasesMs: phases.durationsMs,
    criu: { path: criu.path, version: criu.version },
  };
}
