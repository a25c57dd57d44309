import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { checkpoint, restore, verify, type CheckpointOptions, type PhaseEvent } from '../../../src/index.js';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { QuietWriter } from '../archive/trees.js';

describe.each(freezerVersions())('the kernel tells what changes, cgroup %s', (version) => {
  it('and the tree, restored, finds its files and its memory to agree', async () => {
    for (let round = 0; round < 3; round++) {
      await using writer = await BusyWriter.start(version);
      const archive = writer.path('x.tar');
      const { attempts } = await checkpoint({
        pid: writer.pid,
        cgroup: writer.cgroup.path,
        files: [{ path: writer.data, name: 'data' }],
        output: archive,
        watchFromMs: 0,
      });
      expect(attempts).toBe(1);
      await writer.destroy();
      await restore({ archive });
      expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    }
  });
});

describe('a change that nobody told of', () => {
  const version = freezerVersions()[0]!;
  const wait = new Int32Array(new SharedArrayBuffer(4));

  /** A tree beside the target's own, in which somebody else changes a file between the first copy and the freeze. */
  async function withQuietWriter(
    act: (story: {
      file: string;
      archive: string;
      writer: BusyWriter;
      options: CheckpointOptions;
      events: PhaseEvent[];
    }) => Promise<void>,
  ): Promise<void> {
    await using writer = await BusyWriter.start(version);
    const tree = writer.path('tree');
    const file = join(tree, 'file');
    mkdirSync(tree);
    writeFileSync(file, Buffer.alloc(4096));
    await sleep(60); // old enough for its copy to be believed
    await using quiet = await QuietWriter.start(file, 'map');
    const events: PhaseEvent[] = [];
    const onProgress = (event: PhaseEvent): void => {
      events.push(event);
      if (event.phase !== 'precopy' || event.at !== 'end' || events.some(({ phase }) => phase === 'retry')) return;
      void quiet.write();
      while (readFileSync(file, 'latin1')[0] !== 'q') Atomics.wait(wait, 0, 0, 1);
      Atomics.wait(wait, 0, 0, 30); // the clock ticks
    };
    const archive = writer.path('x.tar');
    const options = {
      pid: writer.pid,
      cgroup: writer.cgroup.path,
      files: [{ path: tree, name: 'tree' }],
      output: archive,
      watchFromMs: 0,
      onProgress,
    };
    await act({ file, archive, writer, options, events });
  }

  it('is found after the thaw, and another try looks at every file', async () => {
    await withQuietWriter(async ({ file, archive, options, events, writer }) => {
      expect((await checkpoint(options)).attempts).toBe(2);
      expect(events.filter(({ phase, at }) => phase === 'retry' && at === 'start')).toMatchObject([
        { error: { code: 'CHANGE_UNNOTICED', facts: { path: file } } },
      ]);
      await verify(archive);
      expect(execFileSync('tar', ['-xOf', archive, 'tree/file'])).toEqual(readFileSync(file));
      expect(await writer.isWell()).toMatchObject({ goesOn: true });
    });
  });

  it('is an error where no other try is wanted: no archive, and the target runs', async () => {
    await withQuietWriter(async ({ file, archive, options, writer }) => {
      await expect(checkpoint({ ...options, retries: 0 })).rejects.toMatchObject({
        name: 'ArchiveError',
        code: 'CHANGE_UNNOTICED',
        facts: { path: file },
      });
      expect(existsSync(archive)).toBe(false);
      expect(await writer.isWell()).toMatchObject({ goesOn: true });
    });
  });

  it('does not matter where every file is looked at', async () => {
    await withQuietWriter(async ({ file, archive, options }) => {
      expect((await checkpoint({ ...options, watchFromMs: Infinity })).attempts).toBe(1);
      expect(execFileSync('tar', ['-xOf', archive, 'tree/file'])).toEqual(readFileSync(file));
    });
  });
});
