/**
 * What `exclude` of a file tree means. Each pattern is held against paths below the tree's root, whole, one component
 * against one: `*` is any characters of a component, `?` one, `[a-z]` and `[!a-z]` one of a set; a backslash makes the
 * next character stand for itself; `**` as a component is any number of components, none among them. What matches is
 * left out with all below it. native/tree/exclude.c does the matching, for a scan and for a path alike.
 */
import type { JsonBytes } from '../format/byte-text.js';
import { native } from '../../native.js';

/** Of all patterns of a tree together: SF_MAX_EXCLUDE_PARTS of native/tree/exclude.h. */
export const MAX_PARTS = 256;

/** Whether a pattern of a tree has left something out of it. */
export interface PatternUse {
  pattern: JsonBytes;
  used: boolean;
}

/** Why a pattern can mean nothing; undefined where it can. */
export function whyNoExclude(pattern: string): string | undefined {
  const parts = pattern.split('/');
  if (pattern.includes('\0') || parts.every((part) => part === '')) return 'a pattern that is not empty';
  if (pattern.startsWith('/')) return "a pattern relative to the tree's root, without a slash in front";
  if (parts.some((part) => part === '.' || part === '..')) return "a pattern without '.' and '..' as components";
  return undefined;
}

export function hasTooManyParts(patterns: readonly string[]): boolean {
  return patterns.flatMap((pattern) => pattern.split('/').filter((part) => part !== '')).length > MAX_PARTS;
}

/** For native/. */
export function excludesBuffer(patterns: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat(patterns.flatMap((pattern) => [Buffer.from(pattern as string), Buffer.alloc(1)]));
}

/** Whether the patterns leave out what is at this path below the root. */
export function isExcluded(patterns: readonly (string | Buffer)[], path: Buffer): boolean {
  return patterns.length > 0 && native().excludeMatches(excludesBuffer(patterns), path);
}
