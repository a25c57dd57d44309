import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkpoint } from '../../src/checkpoint/checkpoint.js';
import { readJournals } from '../../src/checkpoint/guardian/journal.js';
import { STATE_DIR } from '../../src/state-dir.js';
import { BusyWriter } from '../fixtures/busy-writer.js';
import { freezerVersions } from '../fixtures/cgroup.js';
import { until } from '../fixtures/processes.js';

const CHECKPOINTS = Number(process.env.STILLFRAME_SOAK ?? 500);
// What the engine and its caches take until they have settled.
const WARM_UP = Math.min(100, Math.floor(CHECKPOINTS / 5));

interface Footprint {
  fds: number;
  rssBytes: number;
  children: number;
  mounts: number;
  journals: number;
}

describe.each(freezerVersions())('soak, cgroup %s', (version) => {
  it(`${CHECKPOINTS} checkpoints of one tree in a row leave nothing behind`, async () => {
    await using writer = await BusyWriter.start(version, { memoryMiB: 1 });
    const output = writer.path('out.tar');
    const windows: number[] = [];
    let before: Footprint | undefined;
    let temporary: string[] = [];
    for (let i = 0; i < CHECKPOINTS; i++) {
      if (i === WARM_UP) {
        before = footprint(writer.pid);
        temporary = temporaryFiles();
      }
      windows.push(
        (
          await checkpoint({
            pid: writer.pid,
            cgroup: writer.cgroup.path,
            files: [{ path: writer.data, name: 'data' }],
            output,
            overwrite: true,
          })
        ).windowMs,
      );
    }
    rmSync(output);
    const after = footprint(writer.pid);
    windows.sort((a, b) => a - b);
    console.log(
      `${version}: windows ${windows[windows.length >> 1]?.toFixed(1)} ms (median), ${windows.at(-1)?.toFixed(1)} ms (worst); resident ${mib(before)} MiB, then ${mib(after)} MiB`,
    );
    expect({ ...after, rssBytes: 0 }).toEqual({ ...before, rssBytes: 0 });
    expect(after.rssBytes).toBeLessThan((before as Footprint).rssBytes * 1.1);
    expect(writer.leftovers()).toEqual([]);
    // Another checkpoint on this machine removes its own.
    const fresh = temporaryFiles().filter((path) => !temporary.includes(path));
    expect(await until(() => !fresh.some((path) => existsSync(path)), 60_000), fresh.join(', ')).toBe(true);
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
  });
});

function footprint(target: number): Footprint {
  globalThis.gc?.();
  return {
    fds: readdirSync('/proc/self/fd').length,
    rssBytes: process.memoryUsage().rss,
    children: readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1').split(' ').filter(Boolean).length,
    mounts: readFileSync('/proc/self/mountinfo', 'latin1').split('\n').length,
    journals: readJournals(STATE_DIR).filter(({ entry }) => entry.target?.pid === target).length,
  };
}

/** Where images, checks and archives of a stream are made. */
function temporaryFiles(): string[] {
  return [tmpdir(), '/dev/shm'].flatMap((dir) =>
    readdirSync(dir)
      .filter((name) => name.startsWith('stillframe-criu') || name.startsWith('.stillframe'))
      .map((name) => join(dir, name)),
  );
}

const mib = (at: Footprint | undefined): string => ((at?.rssBytes ?? 0) / 2 ** 20).toFixed(0);
