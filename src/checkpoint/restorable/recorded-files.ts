import { constants } from 'node:fs';
import { printable, walkMembers, type Entry, type OpenArchive } from '../../archive/index.js';
import { mayBeRegular, type DumpedFile } from '../../criu/index.js';
import { takeTurns } from '../../yield-to-loop.js';
import type { SearchedTree } from './looked-at.js';
import type { ExpectedFile, RestoreFault } from './restorability.js';

/** A file as CRIU recorded it, and whose it is. */
interface Recorded {
  path: Buffer;
  pids: number[];
  /** Undefined where CRIU compares none: of what is only appended to. */
  size: number | undefined;
  mode: number | undefined;
}

type ByPath = Map<string, Recorded>;

/** What CRIU will compare with the files that it finds. A path once, however often it was opened. */
export function recordedFiles(files: readonly DumpedFile[], users: ReadonlyMap<number, number[]>): ByPath {
  const recorded: ByPath = new Map();
  for (const file of files) {
    const { path, size, mode, remap, external } = file;
    const isRegular = mayBeRegular(file) && !(mode === undefined && size === undefined);
    // Deleted files are in the images; and those of a caller come from there.
    if (!isRegular || remap !== undefined || external) continue;
    const key = path.toString('latin1');
    const pids = [...new Set([...(recorded.get(key)?.pids ?? []), ...(users.get(file.id) ?? [])])];
    recorded.set(key, { path, pids, size: size ?? recorded.get(key)?.size, mode });
  }
  return recorded;
}

/**
 * Looks a tree's files up, and takes those that belong there out of `recorded`.
 * @returns what is wrong with them
 */
export async function searchTree(
  archive: OpenArchive,
  { range, root, source, isWhole }: SearchedTree,
  recorded: ByPath,
  signal: AbortSignal | undefined,
): Promise<RestoreFault[]> {
  const faults: RestoreFault[] = [];
  const wanted: ByPath = new Map();
  for (const [path, file] of recorded)
    if (path === source) wanted.set('', file);
    else if (path.startsWith(`${source}/`)) wanted.set(path.slice(source.length + 1), file);
  const settle = (name: string, faultOf: (file: Recorded) => RestoreFault | undefined): void => {
    const file = wanted.get(name);
    // A tar of somebody else's may have a name twice.
    if (file === undefined) return;
    recorded.delete(file.path.toString('latin1'));
    wanted.delete(name);
    const fault = faultOf(file);
    if (fault !== undefined) faults.push(fault);
  };
  /** By the name that they are another one of. */
  const links = new Map<string, string[]>();
  let linked = 0;
  const walk = async (onFile: (name: string, entry: Entry) => void, isDone: () => boolean): Promise<void> => {
    let turn = performance.now();
    for await (const { entry } of walkMembers(archive, range)) {
      if (isDone()) return;
      const name = nameIn(root, entry.name);
      if (name !== undefined) onFile(name, entry);
      turn = await takeTurns(turn, signal);
    }
  };
  await walk(
    (name, entry) => {
      if (!wanted.has(name)) return;
      const target = entry.type === 'hardlink' ? nameIn(root, entry.linkname as Buffer) : undefined;
      if (target === undefined) return settle(name, (file) => difference(file, entry));
      links.set(target, [...(links.get(target) ?? []), name]);
      linked++;
    },
    () => wanted.size === linked,
  );
  // A name that is a link has the size and mode of the first one, which comes before it.
  await walk(
    (name, entry) => {
      for (const link of links.get(name) ?? []) settle(link, (file) => difference(file, entry));
      links.delete(name);
    },
    () => links.size === 0,
  );
  if (isWhole) for (const name of [...wanted.keys()]) settle(name, missing);
  return faults;
}

/** Relative to the tree's root, '' for the root itself. */
function nameIn(root: string, name: Buffer): string | undefined {
  const text = name.toString('latin1').replace(/^\.?\/+/, '');
  if (root === '.') return text;
  if (text === root) return '';
  return text.startsWith(`${root}/`) ? text.slice(root.length + 1) : undefined;
}

function difference(file: Recorded, entry: Entry): RestoreFault | undefined {
  const { path, pids, size, mode } = file;
  const facts = { path: printable(path), pids };
  const where = `${facts.path} (${whose(pids)})`;
  if (entry.type !== 'file')
    return {
      kind: 'file-missing',
      ...facts,
      message: `${where}: a regular file was recorded, the archive has a ${entry.type}`,
    };
  if (size !== undefined && entry.size !== size) {
    const what = `${size} bytes were recorded, the archive has ${entry.size}`;
    return { kind: 'file-size', ...facts, recorded: size, found: entry.size, message: `${where}: ${what}` };
  }
  const found = constants.S_IFREG | entry.mode;
  if (mode === undefined || mode === found) return undefined;
  const what = `mode ${mode.toString(8)} was recorded, the archive has ${found.toString(8)}`;
  return { kind: 'file-mode', ...facts, recorded: mode, found, message: `${where}: ${what}` };
}

function missing({ path, pids }: Recorded): RestoreFault {
  const facts = { path: printable(path), pids };
  const message = `${facts.path} (${whose(pids)}): it lies in an archived tree, and the archive does not have it`;
  return { kind: 'file-missing', ...facts, message };
}

function whose(pids: readonly number[]): string {
  if (pids.length === 0) return 'of no process that is known';
  const shown = pids.slice(0, 5).join(', ');
  return `of ${pids.length === 1 ? 'process' : 'processes'} ${shown}${pids.length > 5 ? ', …' : ''}`;
}

/** What is left of them when all trees have been searched. */
export function expectedFiles(recorded: ByPath): ExpectedFile[] {
  return [...recorded.values()].map(({ path, pids, size, mode }) => ({
    path: printable(path),
    pids,
    ...(size === undefined ? {} : { bytes: size }),
    ...(mode === undefined ? {} : { mode }),
  }));
}
