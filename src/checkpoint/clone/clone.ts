import { constants, openSync, closeSync } from 'node:fs';
import { join } from 'node:path';
import { placeProcess } from '../../cgroup/index.js';
import { CriuError, doubtCriu, findCriu, needsTerminal, type CriuBinary } from '../../criu/index.js';
import { PrivateDirectory } from '../../private-directory.js';
import { identify } from '../../proc/identity.js';
import type { EndWatch, TreeEnd } from '../../tree-end.js';
import { whileWanted } from '../../while-wanted.js';
import { bad } from '../base/check-option.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { withoutLostLog } from '../base/criu-log.js';
import { runningPids } from '../base/pids.js';
import { openPlace, placesFor } from '../base/private-dir.js';
import { parseSubject, type Subject } from '../base/recorded-target.js';
import { Phases } from '../events/phases.js';
import type { RestoreReport } from '../events/report.js';
import { Guardian } from '../guardian/guardian.js';
import { journalRestore } from '../guardian/lock.js';
import type { RestoreOptions, RestoreSettings } from '../options.js';
import { checkOpenFiles } from '../restore/check-open-files.js';
import { excludedFrom, ownPlaces, treeDestinations } from '../restore/destinations.js';
import { giveAddresses, giveOwnAddresses } from '../restore/new-addresses.js';
import { prepareCgroup } from '../restore/restore-cgroup.js';
import { RESTORE_LOG, verifyRunning, watchEnd } from '../restore/restore-tree.js';
import { Undo } from '../restore/undo.js';
import { findChangedFiles } from '../warnings/find-changed-files.js';
import { recordedWarnings } from '../warnings/recorded.js';
import { statesNotRestored } from '../warnings/task-state.js';
import { warning } from '../warnings/warning.js';
import { Warnings } from '../warnings/warnings.js';
import { copyCgroups, type CopyCgroups } from './copy-cgroup.js';
import { placeFiles } from './copy-files.js';
import { CopyInit } from './copy-init.js';
import { openSource, type CopyContent, type CopySource } from './copy-source.js';
import { restoreCopy } from './copy-tree.js';
import { mountPoints } from './mount-points.js';
import type { CloneSettings } from './options.js';
import { ownWrites } from './own-writes.js';
import { refuseTakenPorts } from './taken-ports.js';

/**
 * One copy of a checkpointed tree, beside whatever runs: in a pid namespace, a mount namespace and a cgroup of its own,
 * with the same pids and paths inside. Nothing outside of it is changed but for places of its file trees that do not
 * exist, which are made, empty. It is there whole or not at all; with its end all that was made for it goes.
 * @throws as `restore()`
 */
export async function cloneTree(
  options: RestoreOptions,
  settings: RestoreSettings,
  clone: CloneSettings,
): Promise<RestoreReport> {
  const { signal } = options;
  const phases = new Phases('restore', options);
  const warnings = new Warnings(phases, settings.strict);
  const criu = await findCriu({ criuPath: options.criuPath, stateDir: settings.stateDir, signal });
  await using source = await openSource(options, settings, phases);
  const subject = parseSubject(source.manifest.subject, settings.archive);
  const destinations = treeDestinations(source, settings);
  await ownPlaces(destinations);
  const cgroups = copyCgroups(subject, settings);
  using journal = journalRestore(settings.archive, settings.stateDir);
  await using guardian = await phases.run('guardian', () =>
    Guardian.arm({ journal, placeGuardianIn: settings.placeGuardianIn, signal }),
  );
  const undo = new Undo();
  let log: string | undefined;
  try {
    const hidden = await makeHidden(settings, guardian, undo);
    log = join(hidden.path, RESTORE_LOG);
    const plan = { options, settings, clone, phases, warnings, criu, source, subject, destinations, cgroups, guardian };
    const report = await bringUp({ ...plan, hidden }, undo);
    undo.forget();
    hidden.release();
    return report;
  } catch (error) {
    if (error instanceof CriuError) await doubtCriu(settings.stateDir);
    const lasting = log === undefined ? error : await withoutLostLog(error, log, settings.criuLog);
    throw await undo.after(lasting, () => guardian.closeWindow());
  }
}

interface ClonePlan {
  options: RestoreOptions;
  settings: RestoreSettings;
  clone: CloneSettings;
  phases: Phases;
  warnings: Warnings;
  criu: CriuBinary;
  source: CopySource;
  subject: Subject;
  destinations: ReturnType<typeof treeDestinations>;
  cgroups: CopyCgroups;
  guardian: Guardian;
  hidden: HiddenDirectory;
}

async function bringUp(plan: ClonePlan, undo: Undo): Promise<RestoreReport> {
  const { options, clone, phases, warnings, criu, source, subject, cgroups, guardian, hidden } = plan;
  const unpacked = await phases.run('extract', () => source.unpack(hidden.directory));
  const content = await withAddresses(unpacked, plan);
  const { images } = content;
  await refuseForeignTerminal(images.path, subject, options);
  if (clone.net === 'host') await refuseTakenPorts(images.path);
  const recorded = recordedWarnings(source.manifest.subject);
  const changed = await findChangedFiles(recorded, options.signal);
  if (changed.length > 0) warnings.add(warning('FILES_CHANGED', { files: changed }));
  const places = await mountPoints({ ...content, destinations: plan.destinations }, guardian, undo);
  await prepareCgroup(cgroups.tree, guardian, undo);
  const init = await startInit(plan, undo);
  const files = await phases.run('place-files', () =>
    placeFiles({ init, hidden: hidden.directory.path, trees: content.trees, areOwn: content.areOwn, places }),
  );
  await phases.run('check-files', () => {
    checkOpenFiles(images.files, `/proc/${init.pid}/root`);
    if (files === 'overlay') ownWrites(images.files, places, `/proc/${init.pid}/root`);
  });
  const { pid, innerPid, watch } = await runCopy(plan, init, content, undo);
  await init.keep(innerPid);
  const identity = identify(init.pid);
  if (identity === undefined) throw new CheckpointError('NOT_RUNNING', { pid, what: 'it has ended already' });
  guardian.keepCopy(identity);
  return {
    ended: (waiting) => endOf(init, watch, waiting),
    pid,
    pids: runningPids(pid),
    name: undefined,
    cgroup: cgroups.tree,
    clone: { init: init.pid, files, net: clone.net, hostname: clone.hostname },
    excluded: excludedFrom(source.manifest.trees),
    hasTerminal: false,
    replaced: [],
    warnings: warnings.list,
    totalMs: phases.elapsedMs,
    phasesMs: phases.durationsMs,
    criu: { path: criu.path, version: criu.version },
  };
}

/** Images that other copies use are left as they are. */
async function withAddresses(content: CopyContent, { settings, hidden }: ClonePlan): Promise<CopyContent> {
  const { replaceAddresses } = settings;
  if (replaceAddresses.length === 0) return content;
  const { images, areOwn } = content;
  if (areOwn) {
    await giveAddresses(images.path, replaceAddresses);
    return content;
  }
  const own = hidden.directory.makeInner('images');
  await giveOwnAddresses(images.path, replaceAddresses, own.path);
  return { ...content, images: { ...images, ...own } };
}

/** The tree, restored and seen running. */
async function runCopy(
  { options, settings, phases, warnings, criu, source, subject, cgroups, hidden }: ClonePlan,
  init: CopyInit,
  { images }: CopyContent,
  undo: Undo,
): Promise<{ pid: number; innerPid: number; watch: EndWatch }> {
  const work = hidden.directory.makeInner('criu');
  const restored = await phases.run('restore', () =>
    restoreCopy({ init, criuPath: criu.path, subject, images, work, cgroup: cgroups.tree, options }),
  );
  const { pid, innerPid, lostLocks } = restored;
  const watch = watchEnd(pid);
  undo.push(() => Promise.resolve(watch.close()));
  if (lostLocks.length > 0) warnings.add(warning('LOCKS_LOST', { locks: lostLocks, restoredBy: 'stillframe' }));
  await phases.run('thaw', () => verifyRunning(pid, cgroups.tree, settings.thawTimeoutMs));
  const lost = await statesNotRestored(recordedWarnings(source.manifest.subject), pid);
  if (lost.states.length + lost.more > 0) warnings.add(warning('STATE_LOST', lost));
  return { pid, innerPid, watch };
}

interface HiddenDirectory {
  directory: PrivateDirectory;
  path: string;
  /** It stays, and the guardian removes it with the copy's end. */
  release(): void;
}

async function makeHidden(
  { workDir, besideArchive }: RestoreSettings,
  guardian: Guardian,
  undo: Undo,
): Promise<HiddenDirectory> {
  let isKept = false;
  const { willMake, removed } = guardian.hiddenNames;
  const watch = { willMake, removed: (path: string) => (isKept ? undefined : removed(path)) };
  const directory = PrivateDirectory.make(await openPlace(workDir ?? placesFor(besideArchive)), watch);
  undo.push(() => directory.remove());
  return {
    directory,
    path: join(directory.path, 'criu'),
    release: () => {
      isKept = true;
      directory.leave();
    },
  };
}

async function startInit({ options, clone, cgroups, guardian }: ClonePlan, undo: Undo): Promise<CopyInit> {
  const net = clone.net === 'host' || clone.net === 'own' ? clone.net : openNetwork(clone.net);
  try {
    const init = await CopyInit.start({
      onLauncher: (pid) => {
        guardian.knowTree(pid);
        placeProcess(pid, cgroups.own);
      },
      onInit: (pid) => guardian.knowTree(pid),
      net,
      hostname: clone.hostname,
      signal: options.signal,
    });
    undo.push(() => init.end());
    return init;
  } finally {
    if (typeof net === 'number') closeSync(net);
  }
}

function openNetwork(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY);
  } catch (cause) {
    throw new CheckpointError('CLONE_FAILED', {
      step: 'open the network namespace',
      path,
      reason: 'see the cause',
      cause,
    });
  }
}

/** What a terminal outside of the tree was cannot be given to several copies. */
async function refuseForeignTerminal(imagesDir: string, subject: Subject, { criu }: RestoreOptions): Promise<void> {
  const { shellJob, orphanPtsMaster } = { ...subject.criuOptions, ...criu };
  if (shellJob === true && orphanPtsMaster !== true && (await needsTerminal(imagesDir)))
    bad('clone', true, 'the archive of a tree without a terminal from outside, which no copy can share');
}

/** The root's end, told when the last process of the copy has ended. */
async function endOf(
  init: CopyInit,
  watch: EndWatch,
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<TreeEnd> {
  const { exitCode, exitSignal } = await whileWanted(init.ended, signal);
  const end = await watch.ended({ signal });
  if (end.status !== undefined || exitCode === undefined) return end;
  return { ...(exitSignal === undefined ? { exitCode } : { exitSignal }), status: exitCode };
}
