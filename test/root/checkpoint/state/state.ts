import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { runningPids } from '../../../../src/checkpoint/base/pids.js';
import { compiled } from '../../../fixtures/compiled.js';
import { until } from '../../../fixtures/criu.js';

const folder = fileURLToPath(new URL('.', import.meta.url));
/** state.c, compiled. */
export const program = (() => {
  const hash = createHash('sha256');
  for (const name of readdirSync(folder).toSorted()) hash.update(readFileSync(join(folder, name)));
  // The other files are included: their contents are part of what is compiled.
  const sources = `-DSOURCES_${hash.digest('hex').slice(0, 12)}`;
  return compiled(join(folder, 'state.c'), ['-O1', '-Wall', '-Wextra', '-D_GNU_SOURCE', '-pthread', sources]);
})();

/** A process that holds these objects, and says what they are when asked. */
export class State {
  private constructor(
    readonly dir: string,
    readonly pid: number,
    readonly rows: readonly string[],
  ) {}

  static async start(rows: readonly string[]): Promise<State> {
    const dir = mkdtempSync(join(tmpdir(), 'stillframe-test-state-'));
    const output = openSync(join(dir, 'errors'), 'w');
    // No terminal, no socket of ours, and a session of its own.
    const child = spawn(program, [dir, ...rows], { detached: true, stdio: ['ignore', output, output] });
    closeSync(output);
    await once(child, 'spawn');
    child.unref();
    const state = new State(dir, child.pid as number, rows);
    onTestFinished(async () => {
      await state.end();
      rmSync(dir, { recursive: true, force: true });
    });
    let ended = false;
    child.once('exit', () => (ended = true));
    await until(() => ended || existsSync(join(dir, 'ready')), 'all is set up');
    if (ended) throw new Error(readFileSync(join(dir, 'errors'), 'utf8'));
    return state;
  }

  /** Each row's line; of a row of options one for each option. */
  async ask(): Promise<Map<string, string>> {
    const answer = join(this.dir, 'answer');
    writeFileSync(join(this.dir, 'ask'), '');
    await until(() => existsSync(answer), `${this.rows.join(', ')} are probed`);
    const lines = new Map<string, string>();
    for (const line of readFileSync(answer, 'latin1').split('\n').filter(Boolean)) {
      const [name = '', value = ''] = [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)];
      if (!name.startsWith('options_')) lines.set(name, value);
      else for (const option of value.trim().split(' ')) lines.set(`${name} ${option.split('=')[0]}`, option);
    }
    return lines;
  }

  async end(): Promise<void> {
    if (!existsSync(`/proc/${this.pid}`)) return;
    for (const pid of runningPids(this.pid)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // it ended with its parent
      }
    }
    await until(() => !existsSync(`/proc/${this.pid}`), `${this.pid} is reaped`);
  }
}
