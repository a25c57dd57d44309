import { closeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { describe, expect, it } from 'vitest';
import * as stillframe from '../../../src/index.js';
import * as cgroup from '../../../src/public/cgroup.js';
import * as containers from '../../../src/public/containers.js';
import * as criu from '../../../src/public/criu.js';

// What a program in plain JavaScript may hand over: none of it may end in a TypeError, and none may be ignored.
const NO_OPTIONS: readonly unknown[] = [undefined, null, 5, 'x', {}];
const ODD_OPTIONS: readonly unknown[] = [null, 5, 'x', { fils: 1 }];
const NO_PATHS: readonly unknown[] = [undefined, null, 5, '', 'a\0b', {}, [], Symbol('x')];
const NO_NUMBERS: readonly unknown[] = [undefined, null, 'x', {}, 1.5, -1, 0, Symbol('x')];
const NO_SOURCES: readonly unknown[] = [undefined, null, 5, '', {}, { fils: 1 }, []];

/** Argument lists that are refused. */
type Refused = readonly (readonly unknown[])[];
const each = (values: readonly unknown[], ...after: unknown[]): Refused => values.map((value) => [value, ...after]);
const then = (values: readonly unknown[], ...before: unknown[]): Refused => values.map((value) => [...before, value]);
const required: Refused = [...each(NO_OPTIONS), [{ fils: 1 }]];

/** Every function that the package exports. The arguments would be right but for what is refused. */
const FUNCTIONS: Readonly<Record<string, Refused>> = {
  checkpoint: required,
  restore: required,
  prepare: required,
  planCheckpoint: required,
  restoreCopies: required,
  checkpointEvery: required,
  checkpointContainerEvery: required,
  listArchives: [...each(NO_PATHS), ...then(ODD_OPTIONS, '/nowhere')],
  latestArchive: [...each(NO_PATHS), ...then(ODD_OPTIONS, '/nowhere')],
  withLatestArchive: [
    ...each(NO_PATHS, async () => undefined),
    ['/nowhere'],
    ...then(ODD_OPTIONS, '/nowhere', () => 1),
  ],
  start: [...required, [{ command: ['true'], files: 5 }], [{ command: ['true'], files: [null] }]],
  startOrRestore: [
    ...required,
    [{ command: ['true'] }],
    [{ command: ['true'], restoreFrom: '/nowhere', replaceFiles: 5 }],
  ],
  inspect: [...each(NO_SOURCES), ...then(ODD_OPTIONS, 'a.tar')],
  inspectProcesses: [...each(NO_SOURCES), ...then(ODD_OPTIONS, 'a.tar')],
  inspectImages: [...each(NO_SOURCES), ...then(ODD_OPTIONS, 'a.tar')],
  searchMemory: [
    ...each(NO_SOURCES, { pid: 1, text: 'x', onMatch: () => undefined }),
    ...then([...ODD_OPTIONS, undefined], 'a.tar'),
    ...then(
      [
        { text: '' },
        { text: 5 },
        { regex: '(' },
        { regex: 5 },
        { text: 'x', regex: 'x' },
        {},
        { text: 'x', pid: 0 },
      ].map((one) => ({ pid: 1, onMatch: () => undefined, ...one })),
      'a.tar',
    ),
    ['a.tar', { pid: 1, text: 'x' }],
    ['a.tar', { pid: 1, text: 'x', contextBytes: -1, onMatch: () => undefined }],
  ],
  readMemory: [
    ...each(NO_SOURCES, { pid: 1, start: 0, end: 1, onBytes: () => undefined }),
    ...then([...ODD_OPTIONS, undefined], 'a.tar'),
    ['a.tar', { pid: 1, start: 0, end: 1 }],
    ['a.tar', { pid: 1, start: 5, end: 5, onBytes: () => undefined }],
  ],
  verify: [...each(NO_SOURCES), ...then(ODD_OPTIONS, 'a.tar')],
  readMember: [
    ...each(NO_SOURCES, 'name'),
    ...then([undefined, null, 5, '', {}], 'a.tar'),
    ...then(ODD_OPTIONS, 'a.tar', 'name'),
  ],
  diagnose: [...each(ODD_OPTIONS), [{ criuPath: 5 }], [{ workDir: '' }]],
  recover: [...each(ODD_OPTIONS), [{ stateDir: 5 }], [{ thawTimeoutMs: 'x' }]],
  frozenCgroups: [...each(ODD_OPTIONS), [{ stateDir: 5 }]],
  leftJournals: [...each(ODD_OPTIONS), [{ stateDir: 5 }]],
  listPrograms: [...each(ODD_OPTIONS), [{ stateDir: 5 }]],
  findProgram: [...each(NO_PATHS), ...then(ODD_OPTIONS, 'name')],
  checkpointContainer: required,
  planContainerCheckpoint: required,
  restoreContainer: required,
  checkpointPod: required,
  whileFrozen: [...required, ...then([undefined, null, 5], { pid: 1 })],
  findContainer: required,
  containerTarget: [
    ...required,
    ...then(ODD_OPTIONS, { id: 'c', pid: process.pid, rootfs: '/nowhere', spec: {} } as unknown),
  ],
  containerOf: each(NO_NUMBERS),
  writeImage: [...required, [{ archive: 5, directory: 'd' }], [{ archive: 'a', directory: null }]],
  findCriu: [...each(ODD_OPTIONS), [{ criuPath: 5 }], [{ timeoutMs: 'x' }]],
  listCriu: [...each(ODD_OPTIONS), [{ criuPath: '' }]],
  followLog: [...each(NO_PATHS), ...then(ODD_OPTIONS, 'log')],
  parseCriuOptions: each([undefined, null, 5, 'x', {}, [5], ['fils']]),
  readDumpedFiles: each(NO_PATHS),
  readDumpStats: each(NO_PATHS),
  readInventory: each(NO_PATHS),
  readPstree: each(NO_PATHS),
  readRestoreStats: each(NO_PATHS),
  openFreezer: [...required, [{ pid: 'x' }], [{ pid: process.pid, version: 3 }], [{ cgroup: 5 }]],
  locateCgroup: [...each(NO_NUMBERS), ...then(ODD_OPTIONS, process.pid)],
  hierarchyRoot: each(NO_NUMBERS),
  makeCgroup: each(NO_PATHS),
  placeProcess: [...each(NO_NUMBERS, '/sys'), ...then(NO_PATHS, process.pid)],
  removeCgroup: [...each(NO_PATHS), ...then(ODD_OPTIONS, '/nowhere')],
  processTree: each(NO_NUMBERS),
  'CriuClient.start': required,
  'CriuClient.connect': required,
  'LazyPages.start': [...required, [{ criuPath: 'criu', imagesDir: tmpdir(), workDir: 5 }]],
  'ServiceManager.connect': each(ODD_OPTIONS),
};

/** They take nothing, or may be asked of anything. */
const OF_ANYTHING = ['criuErrorOf', 'freezerVersions', 'isCriuOption', 'openPipe', 'parseLogLine'];
/** Its error is the system's, with the descriptor and the path. */
const OF_THE_SYSTEM = ['sendDescriptor'];

type AnyFunction = (...args: unknown[]) => unknown;

function exportedFunctions(): Map<string, AnyFunction> {
  const found = new Map<string, AnyFunction>();
  for (const room of [stillframe, cgroup, containers, criu] as Record<string, unknown>[])
    for (const [name, value] of Object.entries(room)) {
      if (typeof value !== 'function' || value.prototype instanceof Error) continue;
      const statics = Object.getOwnPropertyNames(value).filter(
        (key) => typeof (value as unknown as Record<string, unknown>)[key] === 'function',
      );
      if (!/^class /.test(Function.prototype.toString.call(value))) found.set(name, value as AnyFunction);
      for (const key of statics)
        found.set(`${name}.${key}`, (value as unknown as Record<string, AnyFunction>)[key]!.bind(value));
    }
  return found;
}

const functions = exportedFunctions();

it('says of every function that the package exports what it refuses', () => {
  expect([...functions.keys()].sort()).toEqual([...Object.keys(FUNCTIONS), ...OF_ANYTHING, ...OF_THE_SYSTEM].sort());
});

describe.each(Object.entries(FUNCTIONS))('%s()', (name, refused) => {
  it('refuses what is no argument of its with BAD_OPTION, and names it', async () => {
    const call = functions.get(name)!;
    for (const args of refused) {
      const error: unknown = await Promise.resolve()
        .then(() => begun(call(...args)))
        .then(
          () => 'it was taken',
          (e: unknown) => e,
        );
      expect(error, describeArgs(args)).toBeInstanceOf(stillframe.StillframeError);
      expect(error, describeArgs(args)).toMatchObject({ code: 'BAD_OPTION', facts: { option: expect.any(String) } });
    }
  });
});

it.each(OF_ANYTHING)('%s() takes anything', (name) => {
  const call = functions.get(name)!;
  for (const value of [undefined, null, 5, 'x', {}, []]) {
    const result = call(value) as { read?: number; write?: number } | undefined;
    if (name === 'openPipe') for (const fd of [result!.read!, result!.write!]) closeSync(fd);
  }
});

it('sendDescriptor() refuses what is no path and no descriptor with the error of a failed sending', async () => {
  const call = functions.get('sendDescriptor')!;
  for (const args of [[], [null], [5, 1], ['/nowhere', 'x'], ['/nowhere', 1, 5], ['/nowhere', 1, '']])
    await expect(Promise.resolve(call(...args))).rejects.toMatchObject({ code: 'DESCRIPTOR_NOT_SENT' });
});

/** An iteration's first step is its call. */
function begun(result: unknown): unknown {
  const isIteration = typeof result === 'object' && result !== null && Symbol.asyncIterator in result;
  return isIteration ? (result as AsyncGenerator).next() : result;
}

function describeArgs(args: readonly unknown[]): string {
  return args.map((arg) => (typeof arg === 'object' && arg !== null ? JSON.stringify(arg) : String(arg))).join(', ');
}
