import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ArchiveWriter, Stage } from '../archive/index.js';
import { needsTerminal, orderUnixSockets, repairTimers, type CriuDumpRequest } from '../criu/index.js';
import { repeatedOptions, thisKernel, type Subject } from './base/recorded-target.js';
import { outsideCopy } from './clone/copy-cgroup.js';
import { pidForCriu } from './clone/copy-target.js';
import { DUMP_LOG } from './dump/dump.js';
import type { Phases } from './events/phases.js';
import type { Warnings } from './warnings/warnings.js';
import type { ReadyTarget } from './window/ready-target.js';

export interface SealPlan {
  target: ReadyTarget;
  stage: Stage;
  writer: ArchiveWriter;
  /** Where CRIU has put the images, and its log and statistics. */
  imagesDir: string;
  workDir: string;
  dump: CriuDumpRequest;
  /** ISO 8601. */
  createdAt: string;
  criuVersion: string;
  warnings: Warnings;
  phases: Phases;
  signal: AbortSignal;
}

/** An archive that is safe under its final name. */
export interface SealedCheckpoint {
  archiveBytes: number;
  /** The tree has its terminal from outside: see CheckpointReport. */
  needsTerminal: boolean;
}

/**
 * Completes the archive: the images, what the target adds, CRIU's log and statistics, and the manifest. `windowMs` is
 * unknown while the window is open.
 * @throws ArchiveError, CriuError CRIU_IMAGE
 */
export async function seal(
  plan: SealPlan,
  { members, windowMs }: { members: Subject['cgroup']['members']; windowMs?: number },
): Promise<SealedCheckpoint> {
  const { target, stage, writer, imagesDir, dump, phases, signal } = plan;
  const subject: Subject = {
    kind: 'process-tree',
    createdAt: plan.createdAt,
    kernel: thisKernel(),
    criu: { version: plan.criuVersion },
    pid: pidForCriu(target.pid, target),
    // Those of a copy go with it.
    cgroup: { version: target.home.version, name: outsideCopy(target.home.name), members },
    criuOptions: repeatedOptions(dump),
    ...(windowMs === undefined ? {} : { windowMs }),
    ...(target.program === undefined ? {} : { program: target.program }),
    ...target.parts.subject,
    warnings: plan.warnings.list,
  };
  const isWithoutTerminal = dump.shellJob === true && dump.orphanPtsMaster !== true && (await needsTerminal(imagesDir));
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
    const data = await readOptional(join(plan.workDir, name));
    if (data !== undefined) await writer.addDocument({ name, data });
  }
  for (const document of documents)
    await ('file' in document ? writer.addFile(document, { signal }) : writer.addDocument(document));
  const { bytes } = await writer.seal({
    subject: { ...subject },
    signal,
    onProgress: (work) => phases.progress('seal', work),
  });
  return { archiveBytes: bytes, needsTerminal: isWithoutTerminal };
}

async function readOptional(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
