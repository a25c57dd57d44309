/** A copy as the target of a checkpoint: what is asked of it from outside, and what has to be asked from inside. */
import { readlinkSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { innermostId, readProcLink, selfAndAncestors } from '../../proc/task.js';
import { bad } from '../base/check-option.js';
import type { Target } from '../window/target.js';
import { initPath } from './copy-init.js';

/** The program that is pid 1 of a copy, as this process sees it; undefined for a process that is in no copy. */
export function initOfCopy(pid: number): number | undefined {
  const namespace = readProcLink(`${pid}/ns/pid`);
  if (namespace === undefined || namespace === readlinkSync('/proc/self/ns/pid')) return undefined;
  const init = selfAndAncestors(pid).find((ancestor) => innermostId(String(ancestor.pid)) === 1)?.pid;
  if (init === undefined || readProcLink(`${init}/ns/pid`) !== namespace) return undefined;
  return isInit(init) ? init : undefined;
}

/** Its file may have been replaced by another version meanwhile. */
function isInit(pid: number): boolean {
  const program = readProcLink(`${pid}/exe`)?.replace(/ \(deleted\)$/, '');
  return program !== undefined && basename(program) === basename(initPath());
}

/**
 * The target as a checkpoint takes it, which for a copy differs: CRIU has to run in its namespaces, and the paths of
 * its files mean what they mean there.
 * @throws CheckpointError BAD_OPTION for what is not done with a copy
 */
export function targetInCopy<T extends Target & { filesInUse?: boolean; preDump?: unknown }>(target: T): T {
  const init = target.parts === undefined ? initOfCopy(target.pid) : undefined;
  if (init === undefined) return target;
  if (target.filesInUse === true) bad('filesInUse', true, 'a target that is no copy: name its files with `files`');
  if (target.preDump !== undefined) bad('preDump', target.preDump, 'a target that is no copy');
  const root = `/proc/${init}/root`;
  return {
    ...target,
    files: (target.files ?? []).map((tree) => ({
      ...tree,
      path: `${root}${resolve(tree.path)}`,
      recordedAs: resolve(tree.path),
    })),
    parts: {
      subject: {},
      onHost: (path) => Buffer.concat([Buffer.from(root), path]),
      inside: { init, program: initPath() },
    },
  };
}

/** The pid of a process as the namespace has it that CRIU runs in. */
export function pidForCriu(pid: number, { parts }: Pick<Target, 'parts'>): number {
  return parts?.inside === undefined ? pid : (innermostId(String(pid)) ?? pid);
}
