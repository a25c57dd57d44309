/** What the tests of the writing side share: programs compiled on the spot, and trees compared by one of them. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { filesBehind, openForWriting } from '../../../src/checkpoint/window/files-in-use.js';
import { compiled } from '../../fixtures/compiled.js';
import { endsWithTest } from '../../fixtures/ends-with-test.js';
import { endChild } from '../../fixtures/processes.js';

/** A directory of its own; leaving its scope removes it. */
export class Scratch implements Disposable {
  readonly path: string;

  constructor(where = tmpdir()) {
    this.path = mkdtempSync(join(where, 'stillframe-test-'));
  }

  in(name: string): string {
    return join(this.path, name);
  }

  dir(name: string): string {
    mkdirSync(this.in(name), { recursive: true });
    return this.in(name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Compiles NAME.c of this directory, once. */
export function program(name: string): string {
  return compiled(fileURLToPath(new URL(`${name}.c`, import.meta.url)), ['-O1', '-Wno-unused-result']);
}

/** Every entry with all its attributes and a hash of its contents, a line each. */
export function listTree(path: string): string[] {
  return execFileSync(program('list-tree'), [path], { encoding: 'latin1', maxBuffer: 1 << 28 })
    .split('\n')
    .filter(Boolean);
}

/** Unpacks with GNU tar, the independent reader. */
export function untar(archive: string, into: string, args: string[] = []): string {
  mkdirSync(into, { recursive: true });
  execFileSync(
    'tar',
    [
      '--xattrs',
      '--xattrs-include=*',
      '--same-owner',
      '--delay-directory-restore',
      '-xpf',
      archive,
      '-C',
      into,
      ...args,
    ],
    { stdio: 'pipe' },
  );
  return into;
}

/** A process that changes the files of a directory all the time. */
export class Writer implements AsyncDisposable {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(mode: string, dir: string): Promise<Writer> {
    const child = spawn(program('writers'), [mode, dir], { stdio: ['ignore', 'pipe', 'inherit'] });
    const writer = endsWithTest(new Writer(child));
    await once(child.stdout, 'data');
    return writer;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  async stop(): Promise<void> {
    process.kill(this.pid, 'SIGSTOP');
    while (!/\) T /.test(readFileSync(`/proc/${this.pid}/stat`, 'latin1'))) await sleep(1);
  }

  continue(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  /** Its shared writable mappings of files, as `dev:ino`. */
  mapped(): Set<string> {
    const files = new Set<string>();
    for (const [, path] of readFileSync(`/proc/${this.pid}/maps`, 'latin1').matchAll(
      /^\S+ .w.s \S+ \S+ [1-9]\d*\s+(\/.*)$/gm,
    )) {
      const { dev, ino } = statSync(path as string, { bigint: true });
      files.add(`${dev}:${ino}`);
    }
    return files;
  }

  /** The files that it has open for writing, likewise. */
  async writable(): Promise<Set<string>> {
    return new Set((await filesBehind(openForWriting([this.pid]))).map(({ dev, ino }) => `${dev}:${ino}`));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return endChild(this.#child);
  }
}

/** A process that holds a file open, and changes it once, unheard of. */
export class QuietWriter implements AsyncDisposable {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(file: string, how: 'map' | 'aio'): Promise<QuietWriter> {
    const child = spawn(program('quiet-writer'), [file, how], { stdio: ['pipe', 'pipe', 'inherit'] });
    const writer = endsWithTest(new QuietWriter(child));
    await once(child.stdout, 'data');
    return writer;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  async write(): Promise<void> {
    this.#child.stdin?.write('.');
    await once(this.#child.stdout as NodeJS.ReadableStream, 'data');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.stdin?.end();
    await ended;
  }
}
