import { Writer } from 'protobufjs/minimal.js';
import { CriuError } from '../errors/criu-error.js';
import { present, type WireOptions } from './messages.js';
import { criu_cg_mode, criu_image_io_mode, criu_network_lock_method, criu_pre_dump_mode } from '../generated/criu.js';
import {
  array,
  bad,
  boolean,
  choice,
  externals,
  filled,
  integer,
  maybe,
  object,
  objects,
  path,
  port,
  record,
  string,
  strings,
  uint32,
} from './option-values.js';
import type { CpuCap, CriuRequestOptions, RawOption } from './options.js';
import { versionNumber, type CriuVersion } from './version.js';

/** What is not in the option's own value: our directories' open descriptors, and numbers of inherited ones in CRIU. */
export interface OptionContext {
  imagesDirFd: number;
  workDirFd?: number | undefined;
  /** The number in CRIU's process of a descriptor of ours that it inherited. */
  inherited(fd: number): number | undefined;
}

type Values = Required<CriuRequestOptions>;
interface Field<K extends keyof Values> {
  since: string;
  /** What of this value only a later version knows, if anything. */
  later?(value: Values[K], options: Partial<CriuRequestOptions>): Later | undefined;
  encode(value: Values[K], context: OptionContext, options: CriuRequestOptions): WireOptions | Partial<WireOptions>;
}

interface Later {
  option: string;
  since: string;
}

/** Options whose value goes into the field of the same name; these are their kinds. */
type SameName<T> = { [K in keyof Values & keyof WireOptions]: Values[K] extends T ? K : never }[keyof Values &
  keyof WireOptions];

function flag<K extends SameName<boolean>>(name: K, since: string): Field<K> {
  return { since, encode: (value) => ({ [name]: boolean(name, value) }) };
}

function text<K extends SameName<string>>(name: K, since: string): Field<K> {
  return { since, encode: (value) => ({ [name]: string(name, value) }) };
}

function file<K extends SameName<string>>(name: K, since: string): Field<K> {
  return { since, encode: (value) => ({ [name]: path(name, value) }) };
}

function number<K extends SameName<number>>(name: K, since: string): Field<K> {
  return { since, encode: (value) => ({ [name]: uint32(name, value) }) };
}

function list<K extends SameName<readonly string[]>>(name: K, since: string): Field<K> {
  return { since, encode: (value) => ({ [name]: strings(name, value) }) };
}

/** The one table of options: which version has each, and which fields it fills. */
const fields: { [K in keyof Values]: Field<K> } = {
  imagesDir: { since: '0.8', encode: (_, { imagesDirFd }) => ({ imagesDirFd }) },
  workDir: { since: '1.2', encode: (_, { workDirFd }) => ({ workDirFd: workDirFd ?? null }) },
  parentImg: text('parentImg', '1.2'),
  logFile: { since: '0.8', encode: (value) => ({ logFile: fileName(value) }) },
  logLevel: { since: '0.8', encode: (value) => ({ logLevel: integer('logLevel', value, 1, 4) }) },
  logToStderr: flag('logToStderr', '3.19'),
  displayStats: flag('displayStats', '3.19'),
  configFile: file('configFile', '3.11'),
  root: file('root', '1.2'),
  leaveRunning: flag('leaveRunning', '0.8'),
  leaveStopped: flag('leaveStopped', '3.19'),
  timeoutSeconds: {
    since: '2.4',
    encode: (value) => ({ timeout: integer('timeoutSeconds', value, 0, longestSeconds) }),
  },
  freezeCgroup: file('freezeCgroup', '2.4'),
  shellJob: flag('shellJob', '0.8'),
  rstSibling: flag('rstSibling', '1.4'),
  execCmd: list('execCmd', '1.3'),
  unprivileged: flag('unprivileged', '3.18'),
  cpuCap: {
    since: '1.3',
    encode: (value) => ({
      cpuCap: array('cpuCap', value).reduce((mask, name) => mask | choice('cpuCap', name, cpuCaps), 0),
    }),
  },
  trackMem: flag('trackMem', '1.2'),
  autoDedup: flag('autoDedup', '1.2'),
  preDumpMode: {
    since: '3.14',
    encode: (value) => ({
      preDumpMode: choice('preDumpMode', value, {
        splice: criu_pre_dump_mode.SPLICE,
        read: criu_pre_dump_mode.VM_READ,
      }),
    }),
  },
  lazyPages: flag('lazyPages', '3.5'),
  pageServer: {
    since: '1.2',
    // Without it CRIU listens on every address: seen, with 4.1.1 and 4.2.1.
    later: ({ address, fd }, { lazyPages, tls }) => {
      if (lazyPages === true && address !== undefined) return { option: 'pageServer.address', since: '4.3' };
      // A dump leaves TLS without a session, and crashes: criu/page-xfer.c, connect_to_page_server. Seen, with 4.1.1.
      return fd !== undefined && tls === true ? { option: 'pageServer.fd with tls', since: '4.3' } : undefined;
    },
    encode: (value, context, { lazyPages }) => {
      const { fd, ...rest } = object('pageServer', value, {
        address: maybe(filled),
        port: maybe(port),
        fd: maybe(uint32),
      });
      if (fd === undefined) return { ps: rest };
      if (lazyPages === true) bad('pageServer', 'no CRIU takes it with lazyPages: it would listen', 'fd');
      return { ps: { ...rest, fd: inherited('pageServer', fd, context) } };
    },
  },
  pidfdStoreSk: number('pidfdStoreSk', '3.16'),
  imageIoMode: {
    since: '4.3',
    encode: (value) => ({
      imageIoMode: choice('imageIoMode', value, {
        writeback: criu_image_io_mode.IMAGE_IO_WRITEBACK,
        direct: criu_image_io_mode.IMAGE_IO_DIRECT,
      }),
    }),
  },
  compress: { since: '4.3', encode: (value) => ({ compress: choice('compress', value, { off: 0, lz4: 1 }) }) },
  compressAcceleration: number('compressAcceleration', '4.3'),
  compressBlockSize: number('compressBlockSize', '4.3'),
  decompressThreads: number('decompressThreads', '4.3'),
  stream: flag('stream', '4.3'),
  pluginOptions: list('pluginOptions', '4.3'),
  tls: flag('tls', '3.13'),
  tlsCacert: file('tlsCacert', '3.13'),
  tlsCacrl: file('tlsCacrl', '3.13'),
  tlsCert: file('tlsCert', '3.13'),
  tlsKey: file('tlsKey', '3.13'),
  tlsNoCnVerify: flag('tlsNoCnVerify', '3.13'),
  fileLocks: flag('fileLocks', '0.8'),
  linkRemap: flag('linkRemap', '1.2'),
  ghostLimit: { since: '1.7', encode: (value) => ({ ghostLimit: uint32('ghostLimit', value) }) },
  forceIrmap: flag('forceIrmap', '1.3'),
  irmapScanPaths: {
    since: '1.8',
    encode: (value) => ({
      irmapScanPaths: array('irmapScanPaths', value).map((element) => path('irmapScanPaths', element)),
    }),
  },
  evasiveDevices: flag('evasiveDevices', '0.8'),
  skipFileRwxCheck: flag('skipFileRwxCheck', '3.18'),
  inheritFd: {
    since: '1.6',
    encode: (value, context) => ({
      inheritFd: objects('inheritFd', value, { key: string, fd: uint32 }).map(({ key, fd }) => ({
        key,
        fd: inherited('inheritFd', fd, context),
      })),
    }),
  },
  external: { since: '2.0', encode: (value) => ({ external: externals('external', value) }) },
  orphanPtsMaster: flag('orphanPtsMaster', '2.12'),
  autoExtMnt: flag('autoExtMnt', '1.6'),
  extSharing: flag('extSharing', '1.6'),
  extMasters: flag('extMasters', '1.6'),
  skipMnt: list('skipMnt', '1.6'),
  enableFs: list('enableFs', '1.6'),
  mntnsCompatMode: flag('mntnsCompatMode', '3.17'),
  emptyNs: {
    since: '2.0',
    encode: (value) => ({
      emptyNs: array('emptyNs', value).reduce((mask, name) => mask | choice('emptyNs', name, { net: CLONE_NEWNET }), 0),
    }),
  },
  joinNs: {
    since: '2.3',
    // CRIU takes a number above 65535 for a path: criu/namespaces.c, check_int_str, v4.2.
    encode: (value) => ({
      joinNs: objects('joinNs', value, { ns: string, nsFile: filled, extraOpt: maybe(string) }).map(
        ({ ns, nsFile, ...rest }) => ({
          ns,
          nsFile: /^\d+$/.test(nsFile) ? `/proc/${nsFile}/ns/${ns}` : path('joinNs', nsFile),
          ...rest,
        }),
      ),
    }),
  },
  weakSysctls: flag('weakSysctls', '2.9'),
  tcpEstablished: flag('tcpEstablished', '0.8'),
  tcpSkipInFlight: flag('tcpSkipInFlight', '2.4'),
  tcpClose: flag('tcpClose', '3.12'),
  networkLock: {
    since: '3.16',
    later: (value) => (value === 'skip' ? { option: "networkLock: 'skip'", since: '3.19' } : undefined),
    encode: (value) => ({
      networkLock: choice('networkLock', value, {
        iptables: criu_network_lock_method.IPTABLES,
        nftables: criu_network_lock_method.NFTABLES,
        skip: criu_network_lock_method.SKIP,
      }),
    }),
  },
  extUnixSk: flag('extUnixSk', '0.8'),
  manageCgroups: {
    since: '1.7',
    encode: (value) => ({
      manageCgroupsMode: choice('manageCgroups', value, {
        ignore: criu_cg_mode.IGNORE,
        none: criu_cg_mode.CG_NONE,
        props: criu_cg_mode.PROPS,
        soft: criu_cg_mode.SOFT,
        full: criu_cg_mode.FULL,
        strict: criu_cg_mode.STRICT,
        default: criu_cg_mode.DEFAULT,
      }),
    }),
  },
  cgRoot: {
    since: '1.3',
    encode: (value) => ({
      cgRoot: objects('cgRoot', value, { controller: maybe(string), path: string }).map(({ controller, path }) => ({
        path,
        ...(controller === undefined ? {} : { ctrl: controller }),
      })),
    }),
  },
  cgroupProps: text('cgroupProps', '2.4'),
  cgroupPropsFile: file('cgroupPropsFile', '2.4'),
  cgroupDumpController: list('cgroupDumpController', '2.4'),
  cgroupYard: file('cgroupYard', '3.14'),
  lsmProfile: text('lsmProfile', '3.12'),
  lsmMountContext: text('lsmMountContext', '3.16'),
  veths: { since: '1.2', encode: (value) => ({ veths: objects('veths', value, { ifIn: string, ifOut: string }) }) },
  extMnt: { since: '1.3', encode: (value) => ({ extMnt: objects('extMnt', value, { key: string, val: string }) }) },
  unixSkIno: {
    since: '1.7',
    encode: (value) => ({
      unixSkIno: array('unixSkIno', value).map((inode) => ({ inode: uint32('unixSkIno', inode) })),
    }),
  },
  statusFd: number('statusFd', '2.11'),
  rawOptions: {
    since: '0.8',
    encode: (value) => ({
      $unknowns: Object.entries(record('rawOptions', value)).map(([number, field]) => rawField(Number(number), field)),
    }),
  },
};

/** CRIU counts it in milliseconds, in 32 bits: criu/seize.c, freeze_processes. */
const longestSeconds = Math.floor(0xffffffff / 1000);
const CLONE_NEWNET = 0x40000000;
// criu/include/cr_options.h, CPU_CAP_*; with any of them CRIU also writes and reads the image that holds them.
const cpuCaps: { [K in CpuCap]: number } = { none: 0, fpu: 1, cpu: 2, ins: 4, all: 7 };

/** Whether it is the name of an option. */
export function isOption(name: string): name is keyof Values {
  return Object.hasOwn(fields, name);
}

/**
 * The fields of the request for these options.
 * @throws CriuError BAD_OPTION for an unknown name or a value of the wrong kind
 */
export function encodeOptions(options: CriuRequestOptions, context: OptionContext): WireOptions {
  const encoded: WireOptions = { imagesDirFd: context.imagesDirFd };
  for (const [name, value] of given({ manageCgroups: 'ignore', ...present(options) })) {
    // The pair comes from one object, so the value is of the type that the name's field wants.
    const field = fields[name] as Field<never>;
    Object.assign(encoded, field.encode(value as never, context, options));
  }
  return encoded;
}

/** @throws CriuError CRIU_OPTION_UNSUPPORTED for the first option, or part of one, that this version does not know */
export function requireOptions(
  options: Partial<CriuRequestOptions>,
  { text, versionNumber: version }: CriuVersion,
): void {
  for (const [name, value] of given(options)) {
    const field = fields[name] as Field<never>;
    const parts = [{ option: name, since: field.since }, field.later?.(value as never, options)];
    const part = parts.find((part) => part !== undefined && versionNumber(part.since) > version);
    if (part !== undefined) throw new CriuError('CRIU_OPTION_UNSUPPORTED', { ...part, version: text });
  }
}

function given(options: Partial<CriuRequestOptions>): [keyof CriuRequestOptions, unknown][] {
  const entries = Object.entries(present(options)) as [keyof CriuRequestOptions, unknown][];
  for (const [name] of entries) if (!isOption(name)) bad(name, 'there is no such option');
  return entries;
}

function inherited(option: string, fd: number, context: OptionContext): number {
  return context.inherited(fd) ?? bad(option, `descriptor ${fd} was not handed to CRIU: list it in the client's fds`);
}

/** The last field of criu_opts that has an option here. */
const lastKnownField = 78;

/** One field as it goes over the wire: protobuf's varint for numbers and booleans, its length and bytes for the rest. */
function rawField(number: number, value: RawOption): Uint8Array {
  if (!Number.isInteger(number) || number <= lastKnownField || number > 0x1fffffff)
    bad(
      'rawOptions',
      `${String(number)} is not the number of a field above ${lastKnownField}: there is an option for it`,
    );
  const writer = Writer.create();
  if (typeof value === 'string')
    return writer
      .uint32((number << 3) | 2)
      .string(value)
      .finish();
  if (value instanceof Uint8Array)
    return writer
      .uint32((number << 3) | 2)
      .bytes(value)
      .finish();
  if (typeof value === 'boolean')
    return writer
      .uint32(number << 3)
      .bool(value)
      .finish();
  if (typeof value === 'bigint' || Number.isSafeInteger(value))
    return varint(writer.uint32(number << 3), BigInt(value)).finish();
  return bad('rawOptions', `field ${number} is neither a boolean, a whole number, a string nor bytes`);
}

/** A negative number goes as its 64 bits: protobuf's int32 and int64. */
function varint(writer: Writer, value: bigint): Writer {
  if (value !== BigInt.asIntN(64, value) && value !== BigInt.asUintN(64, value))
    bad('rawOptions', `${value} does not fit 64 bits`);
  const bits = BigInt.asUintN(64, value);
  return writer.uint64({
    low: Number(bits & 0xffffffffn) | 0,
    high: Number(bits >> 32n) | 0,
    unsigned: true,
  } as unknown as number);
}

function fileName(name: string): string {
  return string('logFile', name) === '' || name.includes('/')
    ? bad('logFile', `"${name}" is not a plain file name; its directory is workDir`)
    : name;
}
