import { expect, it } from 'vitest';
import { PassThrough } from 'node:stream';
import {
  checkpoint,
  checkpointContainer,
  checkpointPod,
  restore,
  restoreContainer,
  whileFrozen,
} from '../../../src/index.js';

// What a program in plain JavaScript may say. A name that is ignored makes a checkpoint without what it asked for.
type Call = (options: object) => Promise<unknown>;

it.each([
  ['checkpoint()', checkpoint, { pid: 1, output: '/tmp/x.tar' }],
  ['restore()', restore, { archive: '/tmp/x.tar' }],
  ['checkpointContainer()', checkpointContainer, { runc: 'c', output: '/tmp/x.tar' }],
  ['restoreContainer()', restoreContainer, { runc: 'c', bundle: '/tmp', archive: '/tmp/x.tar' }],
  ['checkpointPod()', checkpointPod, { containers: [{ runc: 'c' }], outputDir: '/tmp/x' }],
] as unknown as [string, Call, object][])(
  '%s refuses an option that it does not have, by name',
  async (_, call, rest) => {
    const error: unknown = await call({ ...rest, fils: [{ path: '/srv', name: 'srv' }] }).catch((e: unknown) => e);
    expect(error).toMatchObject({
      code: 'BAD_OPTION',
      facts: { option: 'fils' },
      message: expect.stringMatching(/^there is no option `fils`\nThere are: .*\bsignal\b/) as unknown,
    });
  },
);

it('whileFrozen() refuses a bad option by the class of errors that belongs to what it names', async () => {
  const call = whileFrozen as unknown as (...args: unknown[]) => Promise<unknown>;
  for (const [options, name] of [
    [{ pid: 1, fils: 1 }, 'CheckpointError'],
    [{ pid: 1 }, 'CheckpointError'],
    [{}, 'CheckpointError'],
    [{ runc: 'c', fils: 1 }, 'ContainerError'],
    [{ runc: 'c', pid: 1 }, 'ContainerError'],
  ] as const)
    await expect(call(options)).rejects.toMatchObject({ name, code: 'BAD_OPTION' });
});

it('an error can be handed to another thread, whatever the option was that it refuses', async () => {
  for (const value of [() => 1, Symbol('x'), new PassThrough(), AbortSignal.timeout(1)]) {
    const error = await (restore as unknown as Call)({ archive: value, files: value }).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'BAD_OPTION' });
    expect(structuredClone({ ...(error as object) })).toMatchObject({ code: 'BAD_OPTION' });
  }
});

it('takes a name without a value for one that was not given', async () => {
  const error: unknown = await (restore as unknown as Call)({ archive: '', fils: undefined }).catch((e: unknown) => e);
  expect(error).toMatchObject({ code: 'BAD_OPTION', facts: { option: 'archive' } });
});
