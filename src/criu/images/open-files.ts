import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { file_entry, memfd_inode_entry, type inet_sk_entry, type unix_sk_entry } from '../generated/criu.js';
import { present } from '../rpc/messages.js';
import { FILES_MAGIC } from './files.js';
import { imageEntries, toNumber } from './image-file.js';
import { addressBytes, AF_INET6 } from './inet-sockets.js';

const MEMFD_INODE_MAGIC = 0x48453499;

/** By their numbers in CRIU's images. Source: images/fdinfo.proto, fd_types, CRIU v4.2. */
const KINDS = [
  'unknown',
  'file',
  'pipe',
  'fifo',
  'inet socket',
  'unix socket',
  'eventfd',
  'epoll',
  'inotify',
  'signalfd',
  'packet socket',
  'terminal',
  'fanotify',
  'netlink socket',
  'namespace',
  'tun',
  'external file',
  'timerfd',
  'memfd',
  'bpf map',
  'pidfd',
] as const;

export type OpenFileKind = (typeof KINDS)[number];

// include/net/tcp_states.h, Linux v6.12.
const SOCKET_STATES = {
  1: 'established',
  2: 'syn-sent',
  3: 'syn-recv',
  4: 'fin-wait-1',
  5: 'fin-wait-2',
  6: 'time-wait',
  7: 'closed',
  8: 'close-wait',
  9: 'last-ack',
  10: 'listening',
  11: 'closing',
} as const;
// include/uapi/linux/in.h
const PROTOCOLS: Readonly<Record<number, string>> = { 6: 'tcp', 17: 'udp', 136: 'udplite' };

/** What a descriptor of the dump refers to. */
export interface OpenFile {
  kind: OpenFileKind;
  /** Of a file, and of a unix socket with a name (an abstract one begins with a zero byte). */
  path?: Buffer;
  /** In bytes. */
  size?: number;
  pos?: number;
  /** Of a pipe: both of its ends have it. */
  pipeId?: number;
  /** Of a memfd: `pagemap-shmem-<id>.img` lists its pages. */
  sharedId?: number;
  /** Of sockets. */
  state?: (typeof SOCKET_STATES)[keyof typeof SOCKET_STATES];
  protocol?: string;
  /** `address:port`, an IPv6 address in brackets. */
  local?: string;
  remote?: string;
}

/**
 * Reads `files.img`: everything that was open, by the ids that descriptors and mappings refer to.
 * @throws CriuError CRIU_IMAGE
 */
export async function readOpenFiles(imagesDir: string): Promise<Map<number, OpenFile>> {
  const files = new Map<number, OpenFile>();
  const memfds = await readMemfds(imagesDir);
  const decodeOpenFile = (data: Uint8Array): [id: number, file: OpenFile] => {
    const entry = file_entry.decode(data);
    return [entry.id, { kind: KINDS[entry.type] ?? 'unknown', ...openFile(entry, memfds) }];
  };
  for await (const [id, file] of imageEntries(join(imagesDir, 'files.img'), FILES_MAGIC, decodeOpenFile))
    files.set(id, file);
  return files;
}

function openFile(
  { reg, isk, usk, pipe, memfd }: file_entry,
  memfds: ReadonlyMap<number, Partial<OpenFile>>,
): Partial<OpenFile> {
  if (reg != null) {
    const size = reg.size == null ? undefined : toNumber(reg.size);
    return { path: Buffer.from(reg.name), pos: toNumber(reg.pos), ...present({ size }) };
  }
  if (isk != null) return inetSocket(isk);
  if (usk != null) return unixSocket(usk);
  if (memfd != null) return { pos: toNumber(memfd.pos), ...memfds.get(memfd.inodeId) };
  return pipe == null ? {} : { pipeId: pipe.pipeId };
}

/** By the ids of their inodes. The name of one that is no memfd of a program's, but shared memory, is /dev/zero. */
async function readMemfds(imagesDir: string): Promise<Map<number, Partial<OpenFile>>> {
  const memfds = new Map<number, Partial<OpenFile>>();
  const path = join(imagesDir, 'memfd.img');
  if (!existsSync(path)) return memfds;
  const decode = (data: Uint8Array): void => {
    const { inodeId, name, size, shmid } = memfd_inode_entry.decode(data);
    memfds.set(toNumber(inodeId), { path: Buffer.from(name), size: toNumber(size), sharedId: shmid });
  };
  for await (const _ of imageEntries(path, MEMFD_INODE_MAGIC, decode));
  return memfds;
}

function inetSocket({ family, proto, state, srcAddr, srcPort, dstAddr, dstPort }: inet_sk_entry): Partial<OpenFile> {
  const remote = dstPort === 0 ? undefined : endpoint(family, dstAddr, dstPort);
  return {
    protocol: `${PROTOCOLS[proto] ?? `protocol ${proto}`}${family === AF_INET6 ? '6' : ''}`,
    local: endpoint(family, srcAddr, srcPort),
    ...present({ remote, state: stateOf(state) }),
  };
}

function unixSocket({ name, state }: unix_sk_entry): Partial<OpenFile> {
  // A path is ended by a zero byte there; an abstract name begins with one.
  const path = name[0] === 0 ? Buffer.from(name) : Buffer.from(name).subarray(0, cString(name));
  return present({ path: path.length === 0 ? undefined : path, state: stateOf(state) });
}

function cString(bytes: Uint8Array): number {
  const end = bytes.indexOf(0);
  return end === -1 ? bytes.length : end;
}

function stateOf(state: number): OpenFile['state'] {
  return SOCKET_STATES[state as keyof typeof SOCKET_STATES];
}

function endpoint(family: number, words: readonly number[], port: number): string {
  const bytes = addressBytes(words);
  if (family !== AF_INET6) return `${bytes.join('.')}:${port}`;
  const groups = bytes.toString('hex').match(/.{4}/g) ?? ['', ''];
  return `${new URL(`http://[${groups.join(':')}]`).hostname}:${port}`;
}
