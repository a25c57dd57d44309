import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkpoint, openFreezer, restore } from '../../../src/index.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { program, run, stillframe } from '../../fixtures/program.js';

describe.each(freezerVersions())('a restore after a crash, freezer %s', (version) => {
  /** A tree that has been checkpointed, has gone on, and was killed: its files are there still. */
  async function crashed(): Promise<{ writer: BusyWriter; archive: string; single: string; table: bigint }> {
    const writer = await BusyWriter.start(version);
    const single = writer.path('single');
    writeFileSync(single, 'as archived');
    const archive = writer.path('app.tar');
    const files = [
      { path: writer.data, name: 'data' },
      { path: single, name: 'single' },
    ];
    await checkpoint({ pid: writer.pid, files, output: archive });
    expect(await writer.isWell()).toMatchObject({ goesOn: true });
    await writer.kill();
    writeFileSync(single, 'as it was at the crash');
    return { writer, archive, single, table: statSync(writer.data, { bigint: true }).ino };
  }

  it('is refused without a word about replacing, and says which flag does it', async () => {
    const { writer, archive, single, table } = await crashed();
    await using _ = writer;
    const refused = await stillframe('restore', archive);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain('--replace');
    expect(refused.stderr).toContain(`destinations exist: ${writer.data}, ${single}`);
    expect(statSync(writer.data, { bigint: true }).ino).toBe(table);
  });

  it('is refused when two trees would go to one place, however it is named, and nothing is there then', async () => {
    const { writer, archive } = await crashed();
    await using _ = writer;
    const [one, same] = [writer.path('one'), `${writer.path('data')}/../one`];
    await expect(
      restore({ archive, replaceFiles: 'remove', files: { data: one, single: same } }),
    ).rejects.toMatchObject({ code: 'BAD_OPTION', message: expect.stringContaining('data and single') as string });
    expect(existsSync(one)).toBe(false);
  });

  it('has the files as archived, and those of the crash under the names that it reports', async () => {
    const { writer, archive, single } = await crashed();
    await using _ = writer;
    const { replaced, phasesMs } = await restore({ archive, replaceFiles: 'keep' });
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    expect(replaced).toEqual([
      { tree: 'data', path: writer.data, keptAs: expect.stringContaining('/data.replaced-') as string },
      { tree: 'single', path: single, keptAs: expect.stringContaining('/single.replaced-') as string },
    ]);
    expect(readFileSync(single, 'utf8')).toBe('as archived');
    expect(readFileSync(replaced[1]!.keptAs!, 'utf8')).toBe('as it was at the crash');
    expect(readdirSync(replaced[0]!.keptAs!)).toContain('status');
    expect(writer.leftovers()).toEqual(['app.tar', 'single', ...replaced.map((r) => basename(r.keptAs!))].sort());
    expect(phasesMs).toMatchObject({ replace: expect.any(Number) as number, settle: expect.any(Number) as number });
  });

  it('removes those of the crash, as typed: restore --replace --discard-replaced', async () => {
    const { writer, archive } = await crashed();
    await using _ = writer;
    const { status, stdout, stderr } = await stillframe('restore', archive, '--replace', '--discard-replaced');
    expect(stderr).toMatch(/replaced: .*\/data \(the old files were deleted\)/);
    expect([status, stdout.trim()]).toEqual([0, String(writer.pid)]);
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    expect(writer.leftovers()).toEqual(['app.tar', 'single']);
  });

  it('takes its archive from a pipe, too', async () => {
    const { writer, archive } = await crashed();
    await using _ = writer;
    const line = `gzip -c ${archive} | ${process.execPath} ${program} restore - --replace --discard-replaced`;
    const { status, stderr } = await run('sh', ['-c', line]);
    expect(status, stderr).toBe(0);
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    expect(writer.leftovers()).toEqual(['app.tar', 'single']);
  });

  it('leaves the files of the crash where they are when it fails after they were replaced', async () => {
    const { writer, archive, single, table } = await crashed();
    await using _ = writer;
    const cgroup = writer.cgroup.child('frozen').path;
    const freezer = openFreezer({ cgroup });
    await freezer.freeze();
    await expect(restore({ archive, cgroup, replaceFiles: 'remove' })).rejects.toMatchObject({ code: 'CGROUP_FROZEN' });
    await freezer.thaw();
    expect(statSync(writer.data, { bigint: true }).ino).toBe(table);
    expect(readFileSync(single, 'utf8')).toBe('as it was at the crash');
    expect(writer.leftovers()).toEqual(['app.tar', 'single']);
    const cancel = new AbortController();
    await expect(
      restore({
        archive,
        replaceFiles: 'remove',
        signal: cancel.signal,
        onProgress: ({ phase, at }) => {
          if (phase !== 'restore' || at !== 'start') return;
          expect(readFileSync(single, 'utf8')).toBe('as archived');
          cancel.abort(new Error('cancelled'));
        },
      }),
    ).rejects.toThrow('cancelled');
    expect(statSync(writer.data, { bigint: true }).ino).toBe(table);
    expect(writer.leftovers()).toEqual(['app.tar', 'single']);
  });
});

it('names a wrong value and a flag that means nothing alone', async () => {
  await expect(restore({ archive: '/nowhere', replaceFiles: 'yes' as 'keep' })).rejects.toMatchObject({
    code: 'BAD_OPTION',
    facts: { option: 'replaceFiles' },
  });
  const alone = await stillframe('restore', '/nowhere', '--discard-replaced');
  expect([alone.status, alone.stderr]).toEqual([2, expect.stringContaining('needs --replace')]);
});
