import type { JsonBytes } from '../../archive/index.js';
import type { ErrorText } from '../../errors.js';
import type { LostLock } from '../restore/restore-locks.js';
import type { ChangedFile } from './find-changed-files.js';
import { printableJson, type OutsideFile } from './outside-file.js';
import { isOfDescriptor } from './descriptor-state.js';
import type { MovedTree } from './moved-trees.js';
import type { TaskState } from './task-state.js';

/** A pattern that leaves nothing out: misspelt, perhaps, and then what it means is archived. */
export interface IdlePattern {
  pattern: JsonBytes;
  /** The names of the trees that it is for. */
  trees: JsonBytes[];
}

/** What is known with each code. Plain JSON: the manifest records it. */
export interface WarningFacts {
  /** Checkpoint. `more`: how many further ones were left out, because the list would have become too long. */
  FILES_NOT_ARCHIVED: { files: OutsideFile[]; more: number };
  /** Checkpoint: patterns of `exclude` that leave nothing out of any tree that they are for. */
  EXCLUDE_MATCHES_NOTHING: { patterns: IdlePattern[] };
  /** Restore. */
  FILES_CHANGED: { files: ChangedFile[] };
  /** Restore. `destination`: where the tree goes. */
  TREE_ELSEWHERE: { trees: MovedTree[] };
  /**
   * Checkpoint: what CRIU does not dump. Restore: what of that the tree does not have again. `more`: how many further
   * ones were left out, because the list would have become too long; a restore does not look at those.
   */
  STATE_LOST: { states: TaskState[]; more: number };
  /**
   * Restore. Of a container at the checkpoint too: `restoredBy: 'runtime'` is what a runtime loses unless Stillframe
   * has it restore the container.
   */
  LOCKS_LOST: { locks: LostLock[]; restoredBy: 'stillframe' | 'runtime' };
  /** Checkpoint of a container of Podman. `mounts`: where its secrets are in the container. */
  SECRETS_NOT_RESTORABLE: { mounts: string[] };
}

export type WarningCode = keyof WarningFacts;

/**
 * Something that a checkpoint does not hold, or that a restore does not bring back, although CRIU reports success.
 * Match on `code`.
 */
export type Warning<C extends WarningCode = WarningCode> = {
  [K in C]: {
    code: K;
    facts: WarningFacts[K];
    /** What is lost, and of what. Control characters in paths are shown as `\xNN`. */
    message: string;
    /** The next step for the reader. */
    remedy: string;
  };
}[C];

export function warning<C extends WarningCode>(code: C, facts: WarningFacts[C]): Warning<C> {
  const { what, remedy } = texts[code](facts);
  return { code, facts, message: what, remedy } as Warning<C>;
}

/** The message and the remedy of several, as one text each. */
export function textOfAll(warnings: readonly Pick<Warning, 'message' | 'remedy'>[]): ErrorText {
  const joined = (parts: readonly string[]): string => [...new Set(parts)].filter((part) => part !== '').join('; ');
  return {
    what: joined(warnings.map(({ message }) => message)),
    remedy: [...new Set(warnings.map(({ remedy }) => remedy))].filter((remedy) => remedy !== '').join(' '),
  };
}

const uses = { mapped: 'mapped shared and writable', writing: 'open for writing' };

const states = {
  changed: 'changed',
  gone: 'gone',
  unknown: 'perhaps changed: it was mapped, and what is written through a mapping need not move its times',
  unanswered: 'perhaps changed: a file system does not answer',
};

const SHOWN = 10;

function listed(items: readonly string[], more = 0): string {
  const rest = Math.max(0, items.length - SHOWN) + more;
  return items.slice(0, SHOWN).join(', ') + (rest === 0 ? '' : `, and ${rest} more`);
}

const shown = (files: readonly OutsideFile[], more: number): string =>
  listed(
    files.map(({ path, use }) => `${printableJson(path)} (${uses[use]})`),
    more,
  );

const shownLocks = (locks: readonly LostLock[]): string =>
  listed(
    locks.map(
      ({ pid, fd, path, type, start, length, reason }) =>
        `a ${type} lock of process ${pid} on ${path === undefined ? `descriptor ${fd}` : JSON.stringify(path)}, bytes ${start} to ${length === 0 ? 'the end' : start + length - 1} (${reason})`,
    ),
  );

const texts: { readonly [C in WarningCode]: (facts: WarningFacts[C]) => ErrorText } = {
  FILES_NOT_ARCHIVED: ({ files, more }) => ({
    what: `files that the tree writes to are not in the archive: ${shown(files, more)}`,
    remedy:
      'Unless the restore finds them exactly as they are now, it is refused, or the tree meets files that do not fit its memory. Archive them too: `filesInUse` takes all of them, `files` those that you name.',
  }),
  EXCLUDE_MATCHES_NOTHING: ({ patterns }) => ({
    what: `patterns of \`exclude\` leave nothing out: ${listed(
      patterns.map(({ pattern, trees }) => `${printableJson(pattern)} (of ${listed(trees.map(printableJson))})`),
    )}`,
    remedy:
      "If something was to be left out, it is in the archive. A pattern is held against whole paths below the tree's " +
      'root: `cache` is what lies in the root, `**/cache` what lies anywhere.',
  }),
  FILES_CHANGED: ({ files }) => ({
    what: `files that the tree writes to are not in the archive, and not, or perhaps not, as they were at the checkpoint: ${listed(
      files.map(({ path, state }) => `${printableJson(path)} (${states[state]})`),
    )}`,
    remedy:
      'What the tree remembers of them may be wrong. Put them back as they were, or archive them too at the next checkpoint.',
  }),
  TREE_ELSEWHERE: ({ trees }) => ({
    what: `file trees go elsewhere although processes have files open or mapped below their old places, where CRIU opens them: ${listed(
      trees.map(
        ({ tree, source, destination, files, more }) =>
          `${JSON.stringify(tree)} to ${printableJson(destination)} instead of ${printableJson(source)} (${listed(files.map(printableJson), more)})`,
      ),
    )}`,
    remedy:
      'The tree works on what is at the old places, and not on what is restored. Restore the trees to their old places, or make the old places lead to the new ones first, as by `mount --bind NEW OLD`.',
  }),
  SECRETS_NOT_RESTORABLE: ({ mounts }) => ({
    what: `Podman cannot restore a container with secrets below /run/secrets: ${listed(mounts.map(printableJson))}`,
    remedy:
      'Podman mounts them on files that it does not make again. Start the container with the secrets elsewhere (`podman run --secret NAME,target=/PATH`) or in its environment (`podman run --secret NAME,type=env`).',
  }),
  STATE_LOST: ({ states, more }) => ({
    what: `CRIU does not bring back: ${listed(
      states.map(
        ({ pid, tid, what, value, options }) =>
          `${options === undefined ? what : options.join(' and ')} of ${tid === pid ? `process ${pid}` : `thread ${tid} of process ${pid}`} (${isOfDescriptor(what) ? 'descriptor ' : ''}${value})`,
      ),
      more,
    )}`,
    remedy:
      'Set it again after the restore, if the program depends on it; docs/what-comes-back.md has the whole table.',
  }),
  LOCKS_LOST: ({ locks, restoredBy }) =>
    restoredBy === 'runtime'
      ? {
          what: `a restore by a container runtime loses POSIX record locks on files that are mapped too: ${shownLocks(locks)}`,
          remedy:
            "Stillframe's own restore sets them again before the tasks run, on x86-64 and unless its `workDir` is mounted noexec. After any other, have the program take them again, or start it anew, before another process uses the file. SQLite in WAL mode holds such locks.",
        }
      : {
          what: `POSIX record locks could not be set again: ${shownLocks(locks)}`,
          remedy:
            'Another process may hold the range now: the tree runs without these locks. End it, free the range, and restore again.',
        },
};
