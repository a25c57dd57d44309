import type { OutputCompression } from '../../archive/index.js';
import type { ArchiveDirectory, ArchiveFile } from './archive-directory.js';
import { archiveName, parseArchiveName } from './archive-name.js';
import { lookAt } from './listed-archive.js';

/** What became of the older archives. */
export interface Removal {
  /** Paths. */
  removed: string[];
  /** What should have been removed, and could not. */
  notRemoved: { path: string; error: unknown }[];
}

/** The archives of one series in its directory: the newest ones are kept. */
export class KeptArchives {
  readonly #directory: ArchiveDirectory;
  readonly #series: string;
  readonly #keep: number;
  /** Files that were found whole, or that we have made: to look at a compressed one is to read all of it. */
  #whole = new Set<string>();

  constructor(directory: ArchiveDirectory, { series, keep }: { series: string; keep: number }) {
    this.#directory = directory;
    this.#series = series;
    this.#keep = keep;
  }

  /** For an archive of now; later than every one that is there, though the clock may have been set back. */
  nextName(compress: OutputCompression | undefined): string {
    const latestMs = Math.max(...this.#files().map(({ atMs }) => atMs), 0);
    return archiveName({ series: this.#series, atMs: Math.max(Date.now(), latestMs + 1) }, compress);
  }

  /**
   * Removes what is older than the archives that are to be kept, of which `made` is the newest. Only whole ones count,
   * and only files of ours with names of this series are removed.
   * @throws the signal's reason
   */
  async removeOld(made: string, signal: AbortSignal | undefined): Promise<Removal> {
    const removal: Removal = { removed: [], notRemoved: [] };
    try {
      for (const file of (await this.#wholeOnes(made, signal)).slice(this.#keep)) this.#remove(file, removal);
      if (removal.removed.length > 0) this.#directory.sync();
    } catch (error) {
      signal?.throwIfAborted();
      removal.notRemoved.push({ path: this.#directory.path, error });
    }
    return removal;
  }

  /** The newest first. */
  async #wholeOnes(made: string, signal: AbortSignal | undefined): Promise<ArchiveFile[]> {
    const files = this.#files().sort((a, b) => b.atMs - a.atMs);
    const whole: ArchiveFile[] = [];
    for (const file of files) {
      const isKnown = file.name === made || this.#whole.has(file.identity);
      if (isKnown || (await lookAt(this.#directory, file, signal))?.state === 'whole') whole.push(file);
    }
    this.#whole = new Set(whole.map(({ identity }) => identity));
    return whole;
  }

  #files(): (ArchiveFile & { atMs: number })[] {
    return this.#directory.files().flatMap((file) => {
      const named = parseArchiveName(file.name);
      return named?.series === this.#series && file.uid === process.geteuid?.() ? [{ ...file, atMs: named.atMs }] : [];
    });
  }

  #remove({ name }: ArchiveFile, { removed, notRemoved }: Removal): void {
    const path = this.#directory.pathOf(name);
    try {
      this.#directory.remove(name);
      removed.push(path);
    } catch (error) {
      notRemoved.push({ path, error });
    }
  }
}
