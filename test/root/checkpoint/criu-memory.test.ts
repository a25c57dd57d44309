/** What is remembered of CRIU may be wrong: that costs an error that says what happened, and nothing the next time. */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { findCriu } from '../../../src/criu/index.js';
import { checkpoint, restore } from '../../../src/index.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';

const version = freezerVersions().at(-1)!;

it('forgets a CRIU that fails at its work, in a checkpoint and in a restore', async () => {
  await using writer = await BusyWriter.start(version);
  const { path: works } = await findCriu();
  const [criuPath, stateDir, broken] = [writer.path('criu'), writer.path('state'), writer.path('broken')];
  const memory = `${stateDir}/criu.json`;
  writeFileSync(criuPath, `#!/bin/sh\n[ ! -e ${broken} ] || exit 7\nexec ${works} "$@"\n`, { mode: 0o755 });
  const files = [{ path: writer.data, name: 'data' }];
  const options = { pid: writer.pid, files, output: writer.path('a.tar'), criuPath, stateDir };
  await checkpoint(options);
  expect(existsSync(memory)).toBe(true);

  writeFileSync(broken, '');
  const failed = { name: 'CriuError', message: expect.stringContaining('exit status 7') as string };
  await expect(checkpoint({ ...options, output: writer.path('b.tar'), retries: 0 })).rejects.toMatchObject(failed);
  expect(existsSync(memory)).toBe(false);
  await expect(checkpoint({ ...options, output: writer.path('b.tar') })).rejects.toMatchObject({
    code: 'CRIU_UNUSABLE',
  });

  rmSync(broken);
  await checkpoint({ ...options, output: writer.path('b.tar') });
  expect(existsSync(memory)).toBe(true);
  await writer.destroy();
  writeFileSync(broken, '');
  await expect(restore({ archive: options.output, criuPath, stateDir })).rejects.toMatchObject(failed);
  expect(existsSync(memory)).toBe(false);
  expect(existsSync(writer.data)).toBe(false);
});
