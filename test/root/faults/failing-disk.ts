/** A disk that can be made to fail at any moment: an ext4 on a loop device. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { endsWithTest } from '../../fixtures/ends-with-test.js';
import { compiled } from '../../fixtures/compiled.js';

const shutDown = fileURLToPath(new URL('../../fixtures/shut-down.c', import.meta.url));

export class FailingDisk implements Disposable {
  /** Where it is mounted. */
  readonly path: string;
  readonly #backing: string;

  constructor(under: string) {
    this.path = join(under, 'disk');
    this.#backing = join(under, 'disk.img');
    mkdirSync(this.path);
    writeFileSync(this.#backing, '');
    truncateSync(this.#backing, 64 << 20);
    execFileSync('mkfs.ext4', ['-q', '-E', 'lazy_itable_init=1', this.#backing]);
    execFileSync('mount', ['-o', 'loop', this.#backing, this.path]);
    endsWithTest(this);
  }

  /** It is dead: whatever is asked of it fails with EIO. */
  die(): void {
    execFileSync(compiled(shutDown), [this.path]);
  }

  /** What the kernel does to a file system in which it has found an error: EROFS for every write. */
  becomeReadOnly(): void {
    execFileSync('mount', ['-o', 'remount,abort', this.path]);
  }

  [Symbol.dispose](): void {
    spawnSync('umount', [this.path]);
    rmSync(this.path, { recursive: true, force: true });
    rmSync(this.#backing, { force: true });
  }
}
