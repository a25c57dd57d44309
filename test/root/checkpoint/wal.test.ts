import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { checkpoint, restore } from '../../../src/index.js';
import { runningPids } from '../../../src/checkpoint/base/pids.js';
import { until } from '../../fixtures/criu.js';
import { startDetached } from '../../fixtures/detached.js';

const WORKERS = 3;
const script = fileURLToPath(new URL('wal-workers.py', import.meta.url));

function sql(path: string, query: string): string {
  const program = `import sqlite3, sys; print(sqlite3.connect(sys.argv[1], timeout=30).execute(sys.argv[2]).fetchone()[0])`;
  return spawnSync('python3', ['-c', program, path, query], { encoding: 'utf8' }).stdout.trim();
}

/** The locks of each process on the -shm file, as the kernel shows them with its descriptors. */
function locks(pids: readonly number[]): number {
  return pids
    .flatMap((pid) =>
      readdirSync(`/proc/${pid}/fdinfo`).map((fd) => readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1')),
    )
    .filter((info) => info.includes('POSIX')).length;
}

it('a SQLite database in WAL mode comes back with its locks, and its workers go on', { timeout: 120_000 }, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'stillframe-test-wal-'));
  const data = join(dir, 'data');
  mkdirSync(data);
  const output = openSync(join(dir, 'errors'), 'w');
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const { pid, kill } = await startDetached('python3', [script, data, String(WORKERS)], ['ignore', output, output]);
  const total = (): number => Number(sql(join(data, 'db'), 'SELECT sum(n) FROM counts'));
  await until(() => existsSync(join(data, 'db')) && total() > 50, 'all workers write');
  const archive = join(dir, 'archive.tar');
  await checkpoint({ pid, adopt: true, files: [{ path: data, name: 'data' }], output: archive, stateDir: dir });
  await kill();
  rmSync(data, { recursive: true });

  const { pids, warnings } = await restore({ archive });
  expect(warnings).toEqual([]);
  expect(locks(pids)).toBeGreaterThan(0);
  const restored = total();
  await until(() => total() > restored + 50, 'the workers go on');
  expect(runningPids(pid).toSorted()).toEqual(pids.toSorted());
  expect(sql(join(data, 'db'), 'PRAGMA integrity_check')).toBe('ok');
  expect(existsSync(join(data, 'lost'))).toBe(false);
});
