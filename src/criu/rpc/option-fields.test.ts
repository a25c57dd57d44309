import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import protobuf from 'protobufjs';
import { expect, test } from 'vitest';
import type { CriuError } from '../errors/criu-error.js';
import { criu_opts } from '../generated/criu.js';
import { encodeOptions, requireOptions, type OptionContext } from './option-fields.js';
import type { CriuRequestOptions } from './options.js';

const context: OptionContext = { imagesDirFd: 7, workDirFd: 8, inherited: (fd) => (fd === 20 ? 4 : undefined) };
const encode = (options: Partial<CriuRequestOptions>): ReturnType<typeof encodeOptions> =>
  encodeOptions({ imagesDir: '/x', ...options }, context);

const every: Required<CriuRequestOptions> = {
  imagesDir: '/x',
  workDir: '/y',
  parentImg: '../1',
  logFile: 'x.log',
  logLevel: 4,
  logToStderr: true,
  displayStats: true,
  configFile: '/c',
  root: '/r',
  leaveRunning: true,
  leaveStopped: true,
  timeoutSeconds: 5,
  freezeCgroup: '/f',
  shellJob: true,
  rstSibling: true,
  execCmd: ['a', 'b'],
  unprivileged: true,
  cpuCap: ['fpu', 'ins'],
  trackMem: true,
  autoDedup: true,
  preDumpMode: 'read',
  lazyPages: false,
  pageServer: { address: '::1', port: 5, fd: 20 },
  pidfdStoreSk: 9,
  tls: true,
  tlsCacert: 'a',
  tlsCacrl: 'b',
  tlsCert: 'c',
  tlsKey: 'd',
  tlsNoCnVerify: true,
  fileLocks: true,
  linkRemap: true,
  ghostLimit: 5n,
  forceIrmap: true,
  irmapScanPaths: ['/p'],
  evasiveDevices: true,
  skipFileRwxCheck: true,
  inheritFd: [{ key: 'pipe:[1]', fd: 20 }],
  external: ['mnt[/a]:a'],
  orphanPtsMaster: true,
  autoExtMnt: true,
  extSharing: true,
  extMasters: true,
  skipMnt: ['/s'],
  enableFs: ['fuse'],
  mntnsCompatMode: true,
  emptyNs: ['net'],
  joinNs: [{ ns: 'net', nsFile: '/n' }],
  weakSysctls: true,
  tcpEstablished: true,
  tcpSkipInFlight: true,
  tcpClose: true,
  networkLock: 'skip',
  extUnixSk: true,
  manageCgroups: 'strict',
  cgRoot: [{ path: '/a' }, { controller: 'cpu', path: '/b' }],
  cgroupProps: 'p',
  cgroupPropsFile: 'f',
  cgroupDumpController: ['cpu'],
  cgroupYard: '/y',
  lsmProfile: 'apparmor:x',
  lsmMountContext: 'm',
  veths: [{ ifIn: 'a', ifOut: 'b' }],
  extMnt: [{ key: 'a', val: 'b' }],
  unixSkIno: [5],
  statusFd: 3,
  rawOptions: {},
  imageIoMode: 'direct',
  compress: 'lz4',
  compressAcceleration: 2,
  compressBlockSize: 65536,
  decompressThreads: 4,
  stream: true,
  pluginOptions: ['a.b=c'],
};

test('every field of criu_opts in rpc.proto has an option, but for the three the client fills and the one that is replaced', () => {
  const proto = readFileSync(new URL('../../../proto/criu/rpc.proto', import.meta.url), 'utf8');
  const body = /message criu_opts \{([^}]*)\}/.exec(proto)?.[1] ?? '';
  const names = [...body.matchAll(/^ {2}(?:required|optional|repeated) \S+ (\w+) = \d+/gm)].map(([, name = '']) =>
    name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()),
  );
  expect(names).toHaveLength(77);
  const sent = Object.keys(encode(every));
  expect(names.filter((name) => !sent.includes(name)).sort()).toEqual([
    'imagesDir',
    'manageCgroups',
    'notifyScripts',
    'pid',
  ]);
});

test('what is encoded comes back from the wire as it was', () => {
  const decoded = criu_opts.decode(criu_opts.encode(encode(every)).finish());
  expect(decoded).toMatchObject({
    imagesDirFd: 7,
    workDirFd: 8,
    timeout: 5,
    cpuCap: 5,
    preDumpMode: 2,
    ps: { address: '::1', port: 5, fd: 4 },
    ghostLimit: 5,
    inheritFd: [{ key: 'pipe:[1]', fd: 4 }],
    emptyNs: 0x40000000,
    networkLock: 3,
    manageCgroupsMode: 5,
    cgRoot: [{ path: '/a' }, { ctrl: 'cpu', path: '/b' }],
    unixSkIno: [{ inode: 5 }],
    joinNs: [{ ns: 'net', nsFile: '/n' }],
  });
});

test('paths of ours are absolute on the wire, whatever directory CRIU works in; names are left as they are', () => {
  const here = (name: string): string => `${process.cwd()}/${name}`;
  const relative = {
    configFile: 'c',
    root: 'r',
    freezeCgroup: '../f',
    tlsCacert: 'a',
    tlsCacrl: 'b',
    tlsCert: 'd',
    tlsKey: 'e',
    cgroupPropsFile: 'g',
    cgroupYard: 'y',
  };
  expect(
    encode({
      ...relative,
      irmapScanPaths: ['i'],
      joinNs: [{ ns: 'net', nsFile: 'n' }],
      parentImg: '../1',
      external: ['macvlan[eth0]:out', 'dev[1/3]:null'],
    }),
  ).toMatchObject({
    ...Object.fromEntries(
      Object.entries(relative).map(([name, path]) => [
        name,
        path === '../f' ? dirname(process.cwd()) + '/f' : here(path),
      ]),
    ),
    irmapScanPaths: [here('i')],
    joinNs: [{ ns: 'net', nsFile: here('n') }],
    parentImg: '../1',
    external: ['macvlan[eth0]:out', 'dev[1/3]:null'],
  });
});

test('a pid of a namespace to join may have any size', () => {
  expect(
    encode({
      joinNs: [
        { ns: 'uts', nsFile: '70000' },
        { ns: 'user', nsFile: '5', extraOpt: '0,0' },
      ],
    }),
  ).toMatchObject({
    joinNs: [
      { ns: 'uts', nsFile: '/proc/70000/ns/uts' },
      { ns: 'user', nsFile: '/proc/5/ns/user', extraOpt: '0,0' },
    ],
  });
});

test('cgroups are left alone unless asked for', () => {
  expect(encode({})).toMatchObject({ imagesDirFd: 7, manageCgroupsMode: 0 });
});

test.each([
  [{ logFile: 'a/b' }, 'logFile'],
  [{ logFile: '' }, 'logFile'],
  [{ ghostLimit: 2 ** 32 }, 'ghostLimit'],
  [{ ghostLimit: -1n }, 'ghostLimit'],
  [{ timeoutSeconds: 1.5 }, 'timeoutSeconds'],
  [{ inheritFd: [{ key: 'a', fd: 21 }] }, 'inheritFd'],
  [{ pageServer: { fd: 21 } }, 'pageServer'],
  [{ pageServer: { fd: 20 }, lazyPages: true }, 'pageServer'],
  [{ pageServer: { address: '::1', port: 70000 } }, 'pageServer'],
  [{ pageServer: { address: '::1', port: -1 } }, 'pageServer'],
  [{ pageServer: { address: '', port: 1 } }, 'pageServer'],
  [{ pageServer: { adress: '::1' } } as object, 'pageServer'],
  [{ pageServer: 5 } as object, 'pageServer'],
  [{ timeoutSeconds: 4_294_968 }, 'timeoutSeconds'],
  [{ external: ['macvlan[eth0]'] }, 'external'],
  [{ external: ['macvlan[eth0]:'] }, 'external'],
  [{ configFile: '' }, 'configFile'],
  [{ joinNs: [{ ns: 'net', nsFile: '' }] }, 'joinNs'],
  [{ joinNs: [{ ns: 'net' }] } as object, 'joinNs'],
  [{ joinNs: [{ ns: 'net', nsFile: 5 }] } as object, 'joinNs'],
  [{ joinNs: [null] } as object, 'joinNs'],
  [{ cgRoot: [{ controller: 'cpu' }] } as object, 'cgRoot'],
  [{ cgRoot: [{ path: '/a\0b' }] }, 'cgRoot'],
  [{ inheritFd: [{ fd: 20 }] } as object, 'inheritFd'],
  [{ veths: [{ ifIn: 'a' }] } as object, 'veths'],
  [{ extMnt: [{ key: 'a' }] } as object, 'extMnt'],
  [{ unixSkIno: ['x'] } as object, 'unixSkIno'],
  [{ unixSkIno: [2 ** 32] }, 'unixSkIno'],
  [{ logLevel: 99 } as object, 'logLevel'],
  [{ logLevel: 0 } as object, 'logLevel'],
  [{ timeoutSeconds: '5' } as object, 'timeoutSeconds'],
  [{ rawOptions: 5 } as object, 'rawOptions'],
  [{ networkLock: 'none' } as object, 'networkLock'],
  [{ manageCgroups: 'toString' } as object, 'manageCgroups'],
  [{ leaveRuning: true } as object, 'leaveRuning'],
  [{ leaveRunning: 'no' } as object, 'leaveRunning'],
  [{ external: 'mnt[]:' } as object, 'external'],
  [{ root: 5 } as object, 'root'],
  [{ rawOptions: { 78: true } }, 'rawOptions'],
  [{ rawOptions: { 2.5: true } }, 'rawOptions'],
  [{ rawOptions: { 80: 1.5 } }, 'rawOptions'],
  [{ rawOptions: { 80: 2n ** 64n } }, 'rawOptions'],
])('%o is refused by name', (options, option) => {
  expect(() => encode(options)).toThrow(
    expect.objectContaining({
      code: 'BAD_OPTION',
      facts: expect.objectContaining({ option }) as object,
    }) as CriuError,
  );
});

test('an option that this CRIU would ignore is refused', () => {
  const version = { major: 3, minor: 17, sublevel: 1, text: '3.17.1', versionNumber: 31701 };
  expect(() =>
    requireOptions({ leaveRunning: true, mntnsCompatMode: true, leaveStopped: undefined } as object, version),
  ).not.toThrow();
  expect(() => requireOptions({ leaveStopped: true }, version)).toThrow(
    'CRIU 3.17.1 does not know the option `leaveStopped`',
  );
});

test('a value that this CRIU would ignore or not understand is refused, where another of the same option is not', () => {
  const since =
    (text: string, versionNumber: number) =>
    (options: Partial<CriuRequestOptions>): string | undefined => {
      try {
        requireOptions(options, { major: 0, minor: 0, sublevel: 0, text, versionNumber });
        return undefined;
      } catch (error) {
        expect(error).toMatchObject({ code: 'CRIU_OPTION_UNSUPPORTED', facts: { version: text } });
        const { option, since } = (error as CriuError).facts;
        return `${option} ${since}`;
      }
    };
  const old = since('3.18', 31800);
  expect(old({ networkLock: 'skip' })).toBe("networkLock: 'skip' 3.19");
  expect(old({ networkLock: 'nftables' })).toBeUndefined();
  expect(since('3.19', 31900)({ networkLock: 'skip' })).toBeUndefined();
  const address = { address: '127.0.0.1' };
  expect(since('4.2.1', 40201)({ lazyPages: true, pageServer: address })).toBe('pageServer.address 4.3');
  expect(since('4.2.1', 40201)({ lazyPages: true, pageServer: { port: 5 } })).toBeUndefined();
  expect(since('4.2.1', 40201)({ tls: true, pageServer: { fd: 5 } })).toBe('pageServer.fd with tls 4.3');
  expect(since('4.2.1', 40201)({ tls: true, pageServer: address })).toBeUndefined();
  expect(since('4.2.1', 40201)({ tls: false, pageServer: { fd: 5 } })).toBeUndefined();
  expect(since('4.3', 40300)({ tls: true, pageServer: { fd: 5 } })).toBeUndefined();
  expect(since('4.2.1', 40201)({ lazyPages: false, pageServer: address })).toBeUndefined();
  expect(since('4.3', 40300)({ lazyPages: true, pageServer: address })).toBeUndefined();
});

test('the comment of each option names the version from which on it is accepted', () => {
  const source = readFileSync(new URL('options.ts', import.meta.url), 'utf8');
  const none = { major: 0, minor: 0, sublevel: 0, text: '0.0', versionNumber: 0 };
  for (const name of Object.keys(every).filter((name) => name !== 'rawOptions')) {
    const comment = new RegExp(`/\\*\\*((?:(?!\\*/)[^])*)\\*/\\n  ${name}\\??:`).exec(source)?.[1];
    const since = /Since (\d+\.\d+)\./.exec(comment ?? '')?.[1];
    expect(() => requireOptions({ [name]: every[name as keyof typeof every] }, none), name).toThrow(
      expect.objectContaining({ facts: expect.objectContaining({ since }) as object }) as CriuError,
    );
  }
});

test('raw options are on the wire what a newer proto would read, and nothing else is changed', () => {
  const bytes = criu_opts
    .encode(
      encode({
        leaveRunning: true,
        rawOptions: { 79: true, 80: -1, 81: 'text', 82: Uint8Array.of(8, 1), 1000: 2n ** 63n },
      }),
    )
    .finish();
  const newer = protobuf
    .parse(
      `syntax = "proto2"; message sub { optional int32 a = 1; } message criu_opts {
    optional int32 images_dir_fd = 1; optional bool leave_running = 3;
    optional bool b = 79; optional int32 i = 80; optional string s = 81; optional sub m = 82; optional uint64 u = 1000; }`,
    )
    .root.lookupType('criu_opts');
  const read = newer.toObject(newer.decode(bytes), { longs: String });
  expect(read).toEqual({
    imagesDirFd: 7,
    leaveRunning: true,
    b: true,
    i: -1,
    s: 'text',
    m: { a: 1 },
    u: String(2n ** 63n),
  });
});
