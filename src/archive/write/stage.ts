import { setTimeout as sleep } from 'node:timers/promises';
import { fdatasync as fdatasyncWithCallback } from 'node:fs';
import { promisify } from 'node:util';
import { ArchiveError } from '../format/archive-error.js';
import type { StagedTree, TreeSource } from './staged-tree.js';
import { bytesToJson, type JsonBytes } from '../format/byte-text.js';
import { inodesOf, PassTrust, TICKS_MS, type FilesInUse } from '../scan/copy-trust.js';
import type { PatternUse } from '../scan/excludes.js';
import type { ScanResult } from '../scan/scanned-tree.js';
import { StageWork, type Copied, type StageProgress } from './stage-work.js';
import type { ArchiveWriter } from './writer.js';

export interface PrecopyOptions {
  /** Reads which files are mapped shared and writable now. It is called once a pass. */
  mapped: () => FilesInUse | Promise<FilesInUse>;
  /** Passes repeat as long as each shrinks what is left, at most this often. Default 4. */
  maxPasses?: number;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: StageProgress) => void) | undefined;
}

export interface RefreshOptions {
  /** What is mapped shared and writable, read since the files stand still. */
  mapped: FilesInUse;
  /**
   * Reads which files are open for writing now. It is called where the kernel tells what has changed: of some writes
   * it tells when the file is closed.
   */
  writable: () => FilesInUse | Promise<FilesInUse>;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: StageProgress) => void) | undefined;
}

export interface StageTimes {
  passes: number;
  precopyMs: number;
  /** Of the refresh: looking for changes, copying them, and the whole. */
  refreshScanMs: number;
  refreshCopyMs: number;
  refreshMs: number;
}

/** What is to be copied of a tree. */
interface Found {
  tree: StagedTree;
  entries: number;
  bytes: number;
}

const fdatasync = promisify(fdatasyncWithCallback);

/** A pass must leave less than this share of what the one before had to copy, or it was the last. */
const WORTHWHILE = 0.7;
/** One file costs about as much as this many bytes. */
const FILE_COST_BYTES = 50_000;
/**
 * Trees in which nothing has changed for this many times as long as the first pass took will hardly have changed during
 * it: a second look, which costs as much as a scan, is left to the window, which looks in any case.
 */
const QUIET = 10;
/** However short that pass was. */
const QUIET_MS = 1000;
/** Files that change under the copy although they should stand still: how often they are tried again. */
const REFRESH_TRIES = 5;
/** The kernel's clock, which dates changes, ticks at least so often. */
const TICK_MS = 10;
/** After a copy that took this long one more scan makes sure that nobody interfered; a short one is not worth it. */
const CONFIRM_AFTER_MS = 100;

/**
 * The staged copy of the file trees: made while they are in use, brought up to date when they stand still.
 * After `refresh` it equals the trees.
 */
export class Stage {
  readonly #writer: ArchiveWriter;
  readonly #sources: readonly TreeSource[];
  readonly #watchFromMs: number;
  #isOpen = false;
  #rate = { bytes: 0, ms: 0 };
  #lastScanMs = 0;
  readonly copied: { precopied: Copied; refreshed: Copied } = {
    precopied: { files: 0, bytes: 0 },
    refreshed: { files: 0, bytes: 0 },
  };
  readonly times: StageTimes = { passes: 0, precopyMs: 0, refreshScanMs: 0, refreshCopyMs: 0, refreshMs: 0 };

  /**
   * `watchFromMs`: the kernel is to tell what changes, where it can, in trees that take this long to be looked at.
   * Default 20; Infinity: in none.
   */
  constructor(
    writer: ArchiveWriter,
    sources: readonly TreeSource[],
    { watchFromMs = 20 }: { watchFromMs?: number } = {},
  ) {
    this.#writer = writer;
    this.#sources = sources;
    this.#watchFromMs = watchFromMs;
  }

  /**
   * Copies while the files are in use, and to disk: otherwise the kernel may write it there in the middle of what comes
   * next, and slow down whoever writes then. What may have changed meanwhile is found by `refresh`.
   * @throws ArchiveError TREE_MISSING, TREE_UNREADABLE, STAGING_INSIDE_TREE, OUTPUT_FULL, OUTPUT_FAILED,
   * ENTRY_UNREPRESENTABLE
   */
  async precopy(options: PrecopyOptions): Promise<void> {
    const begin = performance.now();
    const work = new StageWork(this.copied.precopied, options);
    await this.#writer.guard(async () => {
      if (!this.#isOpen && this.#watchFromMs < Infinity)
        for (const tree of await this.#open(options.signal))
          await tree.watch(this.#writer.fds, this.#watchFromMs, options.signal);
      const written: Promise<void>[] = [];
      try {
        await this.#passes(options, work, (tree) => written.push(fdatasync(tree.area.fd)));
      } finally {
        await Promise.allSettled(written);
      }
      await Promise.all(written);
    });
    this.times.precopyMs += performance.now() - begin;
  }

  /**
   * Looks and copies, until it is not worth it. The disk needs no core: the next look goes on beside what `onCopied`
   * begins.
   */
  async #passes(options: PrecopyOptions, work: StageWork, onCopied: (tree: StagedTree) => void): Promise<void> {
    let lastCost = Infinity;
    for (let pass = 0; pass < (options.maxPasses ?? 4); pass++) {
      if (pass > 0) await sleep(TICKS_MS); // what was too young to be believed is old enough then
      const startedAt = Date.now();
      const trust = new PassTrust(startedAt, await options.mapped());
      const found = await this.#scan(work);
      const cost = found.reduce((sum, { entries, bytes }) => sum + bytes + entries * FILE_COST_BYTES, 0);
      if (cost === 0 || cost > lastCost * WORTHWHILE) break;
      lastCost = cost;
      const started = performance.now();
      let latestChangeMs = -Infinity;
      for (const { tree, bytes } of found) {
        work.expect(bytes);
        latestChangeMs = Math.max(
          latestChangeMs,
          await tree.copy({
            trust,
            hopeful: true,
            hash: true,
            ahead: true,
            onCopied: work.onCopied,
            signal: options.signal,
          }),
        );
        onCopied(tree);
      }
      this.#rate = { bytes: cost, ms: performance.now() - started };
      this.times.passes++;
      work.predict(await this.#predictMs());
      if (pass === 0 && latestChangeMs < startedAt - QUIET * Math.max(Date.now() - startedAt, QUIET_MS)) break;
    }
  }

  /**
   * Makes the copy equal to the trees, which must stand still: looks at all, or at what the kernel has told of, and
   * copies what changed.
   * @throws ArchiveError FILE_CHANGED, and those of `precopy`
   */
  async refresh(options: RefreshOptions): Promise<void> {
    const begin = performance.now();
    const stillSinceMs = Date.now() - TICK_MS;
    const work = new StageWork(this.copied.refreshed, options);
    await this.#writer.guard(async () => {
      const isWatched = (await this.#open(options.signal)).some((tree) => tree.isWatched);
      let found = await this.#scan(
        work,
        inodesOf(options.mapped),
        isWatched ? inodesOf(await options.writable()) : new Set(),
      );
      this.times.refreshScanMs += this.#lastScanMs;
      for (let tries = 0; found.some(({ entries }) => entries > 0); tries++) {
        if (tries === REFRESH_TRIES) throw this.#changed(found);
        const started = performance.now();
        for (const { tree, bytes } of found) {
          work.expect(bytes);
          await tree.copy({
            hopeful: false,
            hash: false,
            ahead: false,
            onCopied: work.onCopied,
            signal: options.signal,
          });
        }
        const copyMs = performance.now() - started;
        this.times.refreshCopyMs += copyMs;
        if (copyMs < CONFIRM_AFTER_MS && found.every(({ tree }) => tree.firstPending() === undefined)) break;
        found = await this.#scan(work, new Set(), new Set());
        this.times.refreshScanMs += this.#lastScanMs;
      }
    });
    for (const tree of await this.#open()) tree.settle(stillSinceMs);
    this.times.refreshMs += performance.now() - begin;
  }

  /** What the patterns of `exclude` have left out of the trees, which have been looked at. */
  patternUses(): { tree: JsonBytes; patterns: PatternUse[] }[] {
    return this.#writer.trees.map(({ name, files }) => ({ tree: bytesToJson(name), patterns: files.patternUses() }));
  }

  /** Below the root of a tree, all that the last look at it found; what its filter left out included. */
  livePaths(name: string): Iterable<Buffer> {
    return this.#writer.trees.find((tree) => tree.name.equals(Buffer.from(name)))?.livePaths() ?? [];
  }

  /**
   * Looks at every tree, and at `writable` in any case; for each, what is to be copied. With `doubted`, as nothing runs
   * any more, that is everything without a good copy.
   */
  async #scan(work: StageWork, doubted?: ReadonlySet<bigint>, writable?: ReadonlySet<bigint>): Promise<Found[]> {
    const started = performance.now();
    const found = [];
    for (const tree of [...(await this.#open(work.signal))]) {
      work.throwIfAborted();
      const scan = await this.#look(tree, writable, work.signal);
      if (scan === undefined) continue;
      if (doubted !== undefined) await tree.doubtInodes(doubted);
      const { entries, bytes } = await tree.left({ hopeful: doubted === undefined });
      found.push({ tree, entries, bytes: entries === 0 ? 0 : Math.max(bytes, scan.bytes) });
    }
    this.#lastScanMs = performance.now() - started;
    return found;
  }

  /** `undefined`: it may vanish, and has. The archive has never had it then. */
  async #look(
    tree: StagedTree,
    inodes: ReadonlySet<bigint> | undefined,
    signal: AbortSignal | undefined,
  ): Promise<ScanResult | undefined> {
    try {
      return await tree.scan(inodes, signal);
    } catch (error) {
      if (tree.source.mayVanish !== true || !(error instanceof ArchiveError && error.code === 'TREE_MISSING'))
        throw error;
      await this.#writer.dropTree(tree);
      return undefined;
    }
  }

  async #open(signal?: AbortSignal): Promise<readonly StagedTree[]> {
    if (!this.#isOpen) {
      this.#isOpen = true;
      for (const source of this.#sources) await this.#writer.openTree(source, signal);
    }
    return this.#writer.trees;
  }

  /** The scan, and what the last pass cost: a file that changed once will probably change again. */
  async #predictMs(): Promise<number> {
    const { bytes, ms } = this.#rate;
    let left = 0;
    for (const tree of this.#writer.trees) {
      const pending = await tree.left({ hopeful: false });
      left += pending.bytes + pending.entries * FILE_COST_BYTES;
    }
    return this.#lastScanMs + (bytes === 0 ? 0 : (left / bytes) * ms);
  }

  #changed(found: readonly { tree: StagedTree }[]): ArchiveError {
    const path = found.map(({ tree }) => tree.firstPending()).find((p) => p !== undefined);
    return new ArchiveError('FILE_CHANGED', { ...(path === undefined ? {} : { path }) });
  }
}
