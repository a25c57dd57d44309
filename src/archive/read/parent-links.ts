import { parentName } from '../format/names.js';

/**
 * The links by which one directory of CRIU's images leads to the one that it builds on: `parent`, to a directory in the
 * same one or beside it. Any other link could lead CRIU to a file of this machine, and a chain without end would hold
 * it.
 */
export class ParentLinks {
  /** Directories in latin1, relative to the images'. */
  readonly #parents = new Map<string, string>();

  /** What is wrong with this link, if anything is. */
  add(name: string, target: Buffer | undefined): string | undefined {
    const from = parentName(name);
    const [, up = '', to = ''] = /^(\.\.\/)?([^/]+)$/.exec(target?.toString('latin1') ?? '') ?? [];
    const isLink = name === (from === '' ? 'parent' : `${from}/parent`);
    if (!isLink || to === '' || to === '.' || to === '..' || to === 'parent' || (up !== '' && from === ''))
      return 'a symbolic link';
    const home = up === '' ? from : parentName(from);
    this.#parents.set(from, home === '' ? to : `${home}/${to}`);
    return undefined;
  }

  /** A directory from which the chain of links never ends. */
  endless(): string | undefined {
    const ends = new Set<string>();
    for (const start of this.#parents.keys()) {
      const seen = new Set<string>();
      for (let at: string | undefined = start; at !== undefined && !ends.has(at); at = this.#parents.get(at)) {
        if (seen.has(at)) return start;
        seen.add(at);
      }
      for (const dir of seen) ends.add(dir);
    }
    return undefined;
  }
}
