import { join } from 'node:path';
import { setImmediate as immediate } from 'node:timers/promises';
import {
  extractMembers,
  extractTree,
  openArchive,
  refuseOccupied,
  verifyArchive,
  type ExtractedTree,
  type Replacement,
} from '../../archive/index.js';
import {
  cgroupOf,
  hierarchyRoot,
  makeCgroup,
  missingCgroups,
  moveProcess,
  openFreezer,
  placeProcess,
  removeCgroup,
} from '../../cgroup/index.js';
import {
  repairTimers,
  CriuClient,
  findCriu,
  isOurTerminal,
  LazyPages,
  needsTerminal,
  orderUnixSockets,
  readDumpedFiles,
  readDumpedLocks,
  readPstree,
  terminalProblem,
  type CriuBinary,
  type CriuNotification,
  type DumpedLock,
  type DumpedProcess,
} from '../../criu/index.js';
import { hasFatalSignal, isAlive } from '../../proc/task.js';
import { errnoOf } from '../../errors.js';
import { EndWatch } from '../../tree-end.js';
import { whenAborted } from '../../when-aborted.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { cancellation } from '../base/cancellation.js';
import { withoutLostLog } from '../base/criu-log.js';
import { explainFailedPlace } from '../base/failed-place.js';
import { checkOpenFiles } from './check-open-files.js';
import { Guardian } from '../guardian/guardian.js';
import { journalRestore } from '../guardian/lock.js';
import { refuseUnknown, RESTORE_OPTIONS } from '../option-names.js';
import { checkRestoreOptions, type RestoreOptions, type RestoreSettings } from '../options.js';
import { Phases } from '../events/phases.js';
import { runningPids } from '../base/pids.js';
import { placesFor, PrivateDir } from '../base/private-dir.js';
import type { RestoreReport } from '../events/report.js';
import { parseSubject, type Subject } from '../base/recorded-target.js';
import { excludedFrom, resolvedPlaces, requirePlace, settled, takePlaces, treeDestinations } from './destinations.js';
import { restoreLocks, type LostLock } from './restore-locks.js';
import { waitForPids } from './wait-pids.js';
import { findChangedFiles } from '../warnings/find-changed-files.js';
import { findMovedTrees } from '../warnings/moved-trees.js';
import { recordedWarnings } from '../warnings/recorded.js';
import { statesNotRestored } from '../warnings/task-state.js';
import { warning } from '../warnings/warning.js';
import { Warnings } from '../warnings/warnings.js';

const RESTORE_LOG = 'restore.log';

/**
 * Brings a checkpointed process tree back: verifies the archive, puts its file trees where they were (or
 * where `files` says), restores the tree with CRIU into its cgroup, and thaws it with verification.
 *
 * Nothing on the system is changed before the archive has been verified whole. When something fails, what
 * was extracted and made is removed again; by the guardian, when this process dies.
 *
 * @throws ArchiveError, CheckpointError, CriuError, FreezerError: docs/errors.md says when each code comes
 */
export async function restore(options: RestoreOptions): Promise<RestoreReport> {
  refuseUnknown(options, RESTORE_OPTIONS);
  const settings = checkRestoreOptions(options);
  options.signal?.throwIfAborted();
  return restoreOnce(options, settings).catch((error: unknown) => {
    throw cancellation(explainFailedPlace(error), options.signal);
  });
}

async function restoreOnce(options: RestoreOptions, settings: RestoreSettings): Promise<RestoreReport> {
  const { signal } = options;
  const phases = new Phases('restore', options);
  const warnings = new Warnings(phases, settings.strict);

  const criu = await findCriu({ criuPath: options.criuPath });
  await using archive = await openArchive(settings.source, {
    name: settings.archive,
    tmpDir: settings.workDir ?? settings.besideArchive,
    maxUnpackedBytes: options.maxUnpackedBytes,
    signal,
  });
  const verified = await phases.run('verify', () =>
    verifyArchive(archive, {
      signal,
      onProgress: ({ bytes, totalBytes }) =>
        phases.progress('verify', { done: bytes, total: totalBytes, unit: 'bytes' }),
    }),
  );
  const subject = parseSubject(verified.manifest.subject, settings.archive);
  const destinations = treeDestinations(verified, settings);
  if (settings.replaceFiles === undefined) await refuseOccupied(verified, destinations);
  using journal = journalRestore(settings.archive, settings.stateDir);
  await using guardian = await phases.run('guardian', () =>
    Guardian.arm({ journal, placeGuardianIn: settings.placeGuardianIn }),
  );
  const place = settings.workDir ?? placesFor(settings.besideArchive);
  await using scratch = await PrivateDir.make(place, guardian.hiddenNames);
  const images = scratch.makeInner('images');
  const imagesDir = images.path;
  await extractMembers({ verified, prefix: 'checkpoint', images: true, destination: imagesDir, signal });
  // New archives have it done. Older ones, and other programs', have not.
  await repairTimers(imagesDir);
  await orderUnixSockets(imagesDir);
  const recorded = recordedWarnings(verified.manifest.subject);
  const changed = await findChangedFiles(recorded, signal);
  if (changed.length > 0) warnings.add(warning('FILES_CHANGED', { files: changed }));
  const moved = findMovedTrees(verified.manifest, destinations, await readDumpedFiles(imagesDir));
  if (moved.length > 0) warnings.add(warning('TREE_ELSEWHERE', { trees: moved }));
  const terminal = await terminalFor(imagesDir, subject, settings, options);
  const processes = await readPstree(imagesDir);
  const locks = await readDumpedLocks(imagesDir);
  await phases.run('wait-pids', () => waitForPids(idsOf(processes), settings.pidTimeoutMs, signal));

  // In a pid namespace of its own a tree has other pids here: CRIU tells its root's as soon as it is made.
  if (processes.every(({ pid }) => pid !== 1)) guardian.willTakePids(idsOf(processes));

  const undo: (() => Promise<void>)[] = [];
  const replacements: [tree: string, replacement: Replacement][] = [];
  try {
    await phases.run('extract', async () => {
      const places = await resolvedPlaces(destinations);
      for (const [name, destination] of destinations) {
        await requirePlace(name, destination, places.get(name));
        const tree: ExtractedTree = await extractTree({
          verified,
          tree: name,
          destination,
          signal,
          onDestination: guardian.destinations,
          replace:
            settings.replaceFiles === undefined
              ? undefined
              : { old: settings.replaceFiles, watch: guardian.replacements },
        });
        undo.push(() => tree.remove());
        if (tree.replacement !== undefined) replacements.push([name, tree.replacement]);
      }
    });
    if (replacements.length > 0) await phases.run('replace', () => takePlaces(replacements));
    await phases.run('check-files', () => checkOpenFiles(imagesDir));
    const cgroup = cgroupFor(subject, settings);
    if (cgroup !== undefined) {
      const [outermost] = await prepareCgroup(cgroup, guardian);
      if (outermost !== undefined) undo.push(() => removeCgroup(outermost));
    }
    await using lazyPages = settings.lazyPages
      ? await LazyPages.start({ criuPath: criu.path, imagesDir, workDir: scratch.path })
      : undefined;
    if (lazyPages !== undefined) guardian.knowTree(lazyPages.pid);
    const { pid, leader, lostLocks } = await phases.run('restore', () =>
      restoreTree({
        criu,
        subject,
        pids: new Set(processes.map(({ pid }) => pid)),
        locks,
        images: images.fd,
        workDir: scratch.fd,
        cgroup,
        lazyPages: settings.lazyPages,
        terminal,
        guardian,
        options,
      }),
    );
    undo.push(() => killTree(pid, cgroup));
    const watch = watchEnd(pid);
    undo.push(() => Promise.resolve(watch.close()));
    if (lostLocks.length > 0) warnings.add(warning('LOCKS_LOST', { locks: lostLocks, restoredBy: 'stillframe' }));
    // What CRIU has become is none of the tree: a next checkpoint would find it in the cgroup.
    if (leader !== undefined && cgroup !== undefined)
      moveProcess(leader, cgroupOf(process.pid, openFreezer({ cgroup }).version).path);
    await phases.run('thaw', () => verifyRunning(pid, cgroup, settings.thawTimeoutMs));
    const states = await statesNotRestored(recorded, pid);
    if (states.length > 0) warnings.add(warning('STATE_LOST', { states }));
    // The images must stay until then, and a tree whose memory cannot come any more is of no use to anybody.
    if (lazyPages !== undefined) await phases.run('lazy-pages', () => finished(lazyPages, signal));
    guardian.keepRestored();
    undo.length = 0;
    const replaced = replacements.length === 0 ? [] : await phases.run('settle', () => settled(replacements));
    return {
      ended: (waiting) => watch.ended(waiting),
      pid,
      pids: runningPids(pid),
      cgroup,
      hasTerminal: terminal !== undefined,
      replaced,
      excluded: excludedFrom(verified.manifest.trees),
      warnings: warnings.list,
      totalMs: phases.elapsedMs,
      phasesMs: phases.durationsMs,
      criu: { path: criu.path, version: criu.version },
    };
  } catch (error) {
    const lasting = await withoutLostLog(error, join(scratch.path, RESTORE_LOG), settings.criuLog);
    throw await undone(undo.reverse(), lasting, () => guardian.closeWindow());
  }
}

/** The terminal that the tree has to be given, if it has to. */
async function terminalFor(
  imagesDir: string,
  { criuOptions }: Subject,
  { archive, terminal }: RestoreSettings,
  { criu }: RestoreOptions,
): Promise<number | undefined> {
  const { shellJob, orphanPtsMaster } = { ...criuOptions, ...criu };
  if (shellJob !== true || orphanPtsMaster === true || !(await needsTerminal(imagesDir))) return undefined;
  if (terminal === undefined) throw new CheckpointError('NO_TERMINAL', { archivePath: archive });
  // Only now: the command gives whatever its stdin is, and most trees want none.
  const problem = terminalProblem(terminal);
  if (problem !== undefined)
    throw new CheckpointError('BAD_OPTION', {
      option: 'terminal',
      value: terminal,
      expected: `a terminal: ${problem}`,
    });
  return terminal;
}

/** Every id that the restore has to make anew. A group or session from outside the tree is not among them. */
function idsOf(processes: readonly DumpedProcess[]): number[] {
  return [...new Set(processes.flatMap(({ pid, threads }) => [pid, ...threads]))];
}

/**
 * The recorded cgroup on this machine, or the one asked for; undefined for the root, where nothing has to be
 * placed. A machine without the recorded hierarchy takes the name to the one it has.
 */
function cgroupFor({ cgroup }: Subject, settings: RestoreSettings): string | undefined {
  if (settings.cgroup !== undefined) return settings.cgroup;
  if (cgroup.name === '/') return undefined;
  const root = hierarchyRoot(cgroup.version) ?? hierarchyRoot(cgroup.version === 1 ? 2 : 1);
  if (root === undefined) throw new CheckpointError('NO_CGROUP', { name: cgroup.name });
  return join(root, cgroup.name);
}

/** Makes the cgroup where it is missing; a frozen one would freeze CRIU as soon as it is placed there. */
async function prepareCgroup(cgroup: string, guardian: Guardian): Promise<string[]> {
  const [outermost] = missingCgroups(cgroup);
  if (outermost !== undefined) guardian.willMakeRestoreCgroup(outermost);
  const made = makeCgroup(cgroup);
  const freezer = openFreezer({ cgroup });
  const { frozen, selfFrozen } = freezer.state();
  if (frozen || selfFrozen) throw new CheckpointError('CGROUP_FROZEN', { cgroup });
  await guardian.knowRestoreCgroup(freezer);
  // Its images can say that it is frozen, and then CRIU freezes it.
  await guardian.openWindow(false);
  return made;
}

interface TreePlan {
  criu: CriuBinary;
  subject: Subject;
  /** What the images bring back. */
  pids: ReadonlySet<number>;
  locks: readonly DumpedLock[];
  /** Descriptors. */
  images: number;
  workDir: number;
  cgroup: string | undefined;
  lazyPages: boolean;
  terminal: number | undefined;
  guardian: Guardian;
  options: RestoreOptions;
}

/**
 * CRIU is placed in the cgroup first: what it restores is born there. `leader`: its process, where it leads the session
 * of the terminal from now on.
 */
async function restoreTree({
  criu,
  subject,
  pids,
  locks,
  images,
  workDir,
  cgroup,
  lazyPages,
  terminal,
  guardian,
  options,
}: TreePlan): Promise<{ pid: number; leader: number | undefined; lostLocks: LostLock[] }> {
  await using client = await CriuClient.start({ criuPath: criu.path, ...(terminal === undefined ? {} : { terminal }) });
  guardian.knowCriu(client.pid);
  if (cgroup !== undefined) placeProcess(client.pid, cgroup);
  let lostLocks: LostLock[] = [];
  const onNotify = async ({ script, pid }: CriuNotification): Promise<void> => {
    if (pid !== undefined) guardian.knowTree(pid);
    if (script !== 'post-restore') return;
    // All tasks exist and none has run yet: those that lived in cgroups below go there now.
    if (cgroup !== undefined) placeMembers(subject, pids, cgroup);
    if (pid !== undefined) lostLocks = await restoreLocks(locks, pid);
  };
  const { pid } = await client.restore(
    {
      logFile: RESTORE_LOG,
      logLevel: 2,
      ...subject.criuOptions,
      ...options.criu,
      ...(lazyPages ? { lazyPages } : {}),
      imagesDir: images,
      workDir,
    },
    { onNotify, signal: options.signal },
  );
  return { pid, leader: terminal !== undefined && !isOurTerminal(terminal) ? client.pid : undefined, lostLocks };
}

/** All memory is there; a cancelled wait kills the daemon. */
async function finished(lazyPages: LazyPages, signal: AbortSignal | undefined): Promise<void> {
  const forget = whenAborted(signal, () => void lazyPages.close());
  try {
    await lazyPages.finished();
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    forget();
  }
}

/**
 * Only what has just been restored is moved: a process of the images, which was born in the cgroup. The manifest could
 * name any process of this machine.
 */
function placeMembers({ cgroup: { members } }: Subject, pids: ReadonlySet<number>, cgroup: string): void {
  const { version, path } = openFreezer({ cgroup });
  for (const member of members) {
    if (member.cgroup === '' || !pids.has(member.pid)) continue;
    if (cgroupOf(member.pid, version).path === path) placeProcess(member.pid, join(cgroup, member.cgroup));
  }
}

/**
 * The end that every restore has: a tree whose freezer had been restored with it would otherwise stand still.
 * @throws CheckpointError NOT_RUNNING, FreezerError
 */
async function verifyRunning(pid: number, cgroup: string | undefined, timeoutMs: number): Promise<void> {
  if (cgroup !== undefined) await openFreezer({ cgroup }).thaw({ timeoutMs });
  // CRIU's end may have sent the root a signal (PR_SET_PDEATHSIG) that it has not got round to yet. The second look is for one
  // that was taking it during the first.
  for (let looks = 0; looks < 2; looks++, await immediate()) {
    const ended = hasFatalSignal(pid) || !isAlive(pid);
    if (ended) throw new CheckpointError('NOT_RUNNING', { pid, what: 'it has ended already' });
  }
}

/** @throws CheckpointError NOT_RUNNING; errno errors, where no descriptor is left */
function watchEnd(pid: number): EndWatch {
  try {
    return new EndWatch(pid);
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
    throw new CheckpointError('NOT_RUNNING', { pid, what: 'it has ended already' });
  }
}

/** Ends what CRIU restored. A task that v1 holds frozen dies only when it is thawed. */
async function killTree(pid: number, cgroup: string | undefined): Promise<void> {
  for (const member of runningPids(pid)) {
    try {
      process.kill(member, 'SIGKILL');
    } catch {
      // it ended with its parent
    }
  }
  if (cgroup !== undefined) await openFreezer({ cgroup }).thaw();
}

/** Runs every step whatever the others do; failures of theirs come out beside the error that made them necessary. */
async function undone(
  steps: readonly (() => Promise<void>)[],
  error: unknown,
  allUndone: () => void,
): Promise<unknown> {
  const failures: unknown[] = [];
  for (const step of steps) await step().catch((failure: unknown) => failures.push(failure));
  // Else the guardian tries what could not be undone.
  if (failures.length === 0) allUndone();
  return failures.length === 0
    ? error
    : new AggregateError([error, ...failures], 'the restore failed, and so did a part of undoing it');
}
