import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { checkpoint, type PhaseEvent } from '../../../src/index.js';
import { freezerVersions, withCgroup } from '../../fixtures/cgroup.js';
import { scratch } from '../../fixtures/criu.js';
import { endChild, until } from '../../fixtures/processes.js';

// As much as takes CRIU longer than the tenth of a second between two looks.
const MEMORY_MIB = 512;

it('tells during the dump how much of the memory has been written', async () => {
  await using dir = await scratch();
  await withCgroup(freezerVersions().includes('v2') ? 'v2' : 'v1', async (cgroup) => {
    const gauge = fileURLToPath(new URL('../../../build/workloads/gauge', import.meta.url));
    const status = join(dir.path, 'status');
    const child = spawn(gauge, [status, '--memory', String(MEMORY_MIB)], { stdio: 'ignore', detached: true });
    await once(child, 'spawn');
    try {
      expect(await until(() => existsSync(status) && readFileSync(status).readBigUInt64LE(7 * 8) !== 0n, 30_000)).toBe(
        true,
      );
      cgroup.add(child.pid as number);
      const events: PhaseEvent[] = [];
      await checkpoint({
        pid: child.pid as number,
        output: join(dir.path, 'a.tar'),
        onProgress: (event) => void events.push(event),
      });
      const told = events.filter(({ phase, at }) => phase === 'dump' && at === 'progress');
      expect(told.length).toBeGreaterThan(0);
      for (const { done = -1, total = 0, unit } of told) {
        expect(unit).toBe('bytes');
        expect(done).toBeGreaterThanOrEqual(0);
        expect(total).toBeGreaterThanOrEqual(Math.max(done, MEMORY_MIB << 20));
      }
      expect(told.map(({ done }) => done)).toEqual(told.map(({ done }) => done).toSorted((a = 0, b = 0) => a - b));
      // Nothing of it is told once the dump has ended.
      expect(events.findLastIndex((event) => told.includes(event))).toBeLessThan(
        events.findIndex(({ phase, at }) => phase === 'dump' && at === 'end'),
      );
    } finally {
      await endChild(child);
    }
  });
});
