import { Presets, SingleBar } from 'cli-progress';
import type { PhaseEvent } from '../index.js';
import { bytes } from './output.js';

const WORDS: Partial<Record<PhaseEvent['phase'], string>> = {
  resolve: 'checking the target',
  precopy: 'copying files while the target runs',
  'pre-dump': 'writing memory while the target runs',
  'start-criu': 'starting CRIU',
  freeze: 'freezing',
  dump: 'dumping',
  refresh: 'copying what changed',
  thaw: 'thawing',
  seal: 'writing the archive',
  retry: 'CRIU refused this instant: trying another',
  verify: 'verifying the archive',
  'wait-pids': 'waiting for the process ids to be free',
  extract: 'extracting the files',
  record: 'recording what was unpacked',
  replace: 'replacing the old files',
  'place-files': 'giving the copy files of its own',
  'check-files': 'checking the open files',
  restore: 'restoring',
  'lazy-pages': 'bringing memory while the tree runs',
  settle: 'keeping or deleting the old files',
};

/**
 * One line on stderr that says which phase is under way, with a bar where the amount of work is known.
 * Shows nothing unless stderr is a terminal.
 */
export class ProgressLine {
  readonly #bar: SingleBar | undefined;

  constructor(stream: NodeJS.WriteStream = process.stderr) {
    if (!stream.isTTY) return;
    this.#bar = new SingleBar(
      {
        stream,
        format: (options, params, payload) => {
          const { words, unit } = payload as { words: string; unit: string | undefined };
          if (unit === undefined || params.total <= 0) return `  ${words} …`;
          const width = options.barsize ?? 24;
          const full = Math.round(Math.min(params.progress, 1) * width);
          const amount =
            unit === 'bytes'
              ? `${bytes(params.value)} of ${bytes(params.total)}`
              : `${params.value} of ${params.total} files`;
          return `  ${words}  ${'█'.repeat(full)}${'░'.repeat(width - full)}  ${amount}`;
        },
        barsize: 24,
        clearOnComplete: true,
        hideCursor: true,
        fps: 10,
        linewrap: false,
      },
      Presets.shades_classic,
    );
    this.#bar.start(0, 0, { words: 'starting', unit: undefined });
  }

  /** For `onProgress`. */
  readonly update = (event: PhaseEvent): void => {
    const words = WORDS[event.phase];
    if (this.#bar === undefined || words === undefined) return;
    if (event.at === 'start') {
      this.#bar.setTotal(0);
      this.#bar.update(0, { words, unit: undefined });
    } else if (event.at === 'progress' && event.total !== undefined) {
      this.#bar.setTotal(event.total);
      this.#bar.update(event.done ?? 0, { words, unit: event.unit });
    }
  };

  stop(): void {
    this.#bar?.stop();
  }
}
