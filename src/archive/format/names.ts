import type { EntryType } from './entry.js';

/** The archive name of the root of a tree that is a tar of its own. */
export const ROOT_NAME = '.';

/**
 * Why a member's name must not be extracted, or undefined when it is safe: a relative path of plain
 * components. `.` alone is the root of a nested tree.
 */
export function unsafeName(name: Buffer): string | undefined {
  if (name.length === 0) return 'an empty name';
  if (name.includes(0)) return 'a zero byte in the name';
  const text = name.toString('latin1');
  if (text.startsWith('/')) return 'an absolute path';
  if (text === ROOT_NAME) return undefined;
  for (const part of text.split('/')) {
    if (part === '..') return 'a path that leads upwards';
    if (part === '' || part === '.') return 'an empty component in the path';
    if (part.length > 255) return 'a component of more than 255 bytes';
  }
  return undefined;
}

/** The directory part of a name, '' at the top. */
export function parentName(name: string): string {
  const slash = name.lastIndexOf('/');
  return slash < 0 ? '' : name.slice(0, slash);
}

/**
 * The names of an archive in their order, and whether each can be made of the ones before it: no name twice,
 * nothing below what is not a directory, hard links only to files that came before. An archive that breaks
 * one of these could have something written through a link that it made itself.
 */
export class NameTable<T extends { type: EntryType }> {
  /** By name in latin1, in the archive's order. */
  readonly members = new Map<string, T>();
  /** Directories that names run through and that have no member of their own (yet). */
  readonly #implied = new Set<string>();

  /** Adds a member whose name is safe. Returns what forbids it, if anything does. */
  add(name: string, member: T, linkname?: string): string | undefined {
    if (this.members.has(name)) return 'the name is there twice';
    if (member.type !== 'directory' && this.#implied.has(name))
      return 'members before it lie below it, and it is no directory';
    const wrong = this.#addParents(name);
    if (wrong !== undefined) return wrong;
    if (member.type === 'hardlink') {
      const target = linkname === undefined ? undefined : this.members.get(linkname);
      if (target === undefined) return 'a hard link to no member before it';
      if (target.type === 'directory') return 'a hard link to a directory';
    }
    this.members.set(name, member);
    return undefined;
  }

  #addParents(name: string): string | undefined {
    for (let parent = parentName(name); parent !== '' && !this.#implied.has(parent); parent = parentName(parent)) {
      const member = this.members.get(parent);
      if (member === undefined) this.#implied.add(parent);
      else return member.type === 'directory' ? undefined : `it lies below a ${member.type}`;
    }
    return undefined;
  }
}
