/**
 * The cgroups of a copy: one that is its own, with its pid 1 in it, and in that one the tree's, which can be frozen.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { hierarchyRoot } from '../../cgroup/index.js';
import type { Subject } from '../base/recorded-target.js';
import { cgroupFor } from '../restore/restore-cgroup.js';
import type { RestoreSettings } from '../options.js';

/** Before random digits, and the name of the original's cgroup where the copy's is beside that. */
const PREFIX = 'stillframe-copy-';
const ID_BYTES = 6;
/** Of Linux's file systems. Source: include/uapi/linux/limits.h. */
const NAME_MAX = 255;

export interface CopyCgroups {
  /** Of the copy: what is made for it, and goes with it. */
  own: string;
  /** Of its tree. */
  tree: string;
}

/**
 * Below the cgroup that the caller names; else beside the one that the tree was in. Below that one a copy would stand
 * still whenever the original is frozen, and be a stranger in its checkpoints. Where the parent is gone, below what is
 * left of its path. A copy's copies are beside it.
 */
export function copyCgroups(subject: Subject, settings: RestoreSettings): CopyCgroups {
  const root = hierarchyRoot(subject.cgroup.version) ?? hierarchyRoot(2) ?? '/';
  const home = outsideCopy(cgroupFor(subject, settings) ?? root);
  const isBeside = settings.cgroup === undefined && home !== root;
  let parent = isBeside ? dirname(home) : home;
  while (!existsSync(parent)) parent = dirname(parent);
  const name = `${PREFIX}${randomBytes(ID_BYTES).toString('hex')}`;
  const own = join(parent, isBeside ? `${name}-${basename(home)}`.slice(0, NAME_MAX) : name);
  return { own, tree: join(own, 'tree') };
}

/**
 * Where the original was, or the cgroup that a copy was made in, by the name or path of the copy's own or its tree's.
 */
export function outsideCopy(cgroup: string): string {
  const parts = cgroup.split('/');
  const copy = parts.findIndex((part) => part.startsWith(PREFIX));
  if (copy < 0) return cgroup;
  const original = parts[copy]!.slice(PREFIX.length + 2 * ID_BYTES + 1);
  return [...parts.slice(0, copy), ...(original === '' ? [] : [original])].join('/') || '/';
}
