import { native } from '../../native.js';
import { readProc } from '../../proc/task.js';

/** What only a look at the descriptors themselves can tell: by descriptor, the names of what is not as usual. */
export interface Borrowed {
  options: Map<number, string[]>;
  /** Something waits to be read, which nothing in /proc tells. */
  waiting: ReadonlySet<number>;
}

/** native/addon/descriptors.c */
const WAITING = -1;
const MEMBER = -2;
const ALWAYS = 0;
/** The kernel sets these by itself once a socket is connected. */
const UNCONNECTED = 1;
/** The kernel sets these by itself unless a socket listens. */
const LISTENING = 2;
/** The kernel sets these by itself on an accepted connection. */
const DATAGRAMS = 3;

const AF_INET = 2;
const AF_INET6 = 10;

type Option = readonly [name: string, number: number, when?: number];

/**
 * The options that can be read and that CRIU does not dump, by their level. Numbers: include/uapi/asm-generic/socket.h,
 * include/uapi/linux/in.h, in6.h, tcp.h and udp.h, Linux v6.12. What CRIU dumps: criu/sk-inet.c, criu/sk-tcp.c and
 * criu/sockets.c, CRIU v4.2.
 */
const OPTIONS: readonly (readonly [level: number, options: readonly Option[]])[] = [
  [
    1, // SOL_SOCKET
    [
      ['SO_TIMESTAMP', 29],
      ['SO_TIMESTAMPNS', 35],
      ['SO_TIMESTAMPING', 37],
      ['SO_RXQ_OVFL', 40],
      ['SO_WIFI_STATUS', 41],
      ['SO_PEEK_OFF', 42],
      ['SO_NOFCS', 43],
      ['SO_SELECT_ERR_QUEUE', 45],
      ['SO_BUSY_POLL', 46],
      ['SO_MAX_PACING_RATE', 47],
      ['SO_INCOMING_CPU', 49, LISTENING],
      ['SO_ZEROCOPY', 60],
      ['SO_TXTIME', 61],
      ['SO_PREFER_BUSY_POLL', 69],
      ['SO_RCVMARK', 75],
      ['SO_PASSPIDFD', 76],
      ['SO_RCVPRIORITY', 82],
      // As set by a 32-bit program, or by one for years after 2038.
      ['SO_TIMESTAMP', 63],
      ['SO_TIMESTAMPNS', 64],
      ['SO_TIMESTAMPING', 65],
    ],
  ],
  [
    0, // IPPROTO_IP
    [
      ['IP_OPTIONS', 4],
      ['IP_RECVOPTS', 6],
      ['IP_MTU_DISCOVER', 10],
      ['IP_RECVERR', 11],
      ['IP_RECVTTL', 12],
      ['IP_RECVTOS', 13],
      ['IP_TRANSPARENT', 19],
      ['IP_RECVORIGDSTADDR', 20],
      ['IP_MINTTL', 21],
      ['IP_NODEFRAG', 22],
      ['IP_CHECKSUM', 23],
      ['IP_BIND_ADDRESS_NO_PORT', 24],
      ['IP_RECVFRAGSIZE', 25],
      ['IP_MULTICAST_IF', 32, DATAGRAMS],
      ['IP_MULTICAST_TTL', 33, DATAGRAMS],
      ['IP_MULTICAST_LOOP', 34],
      ['IP_MULTICAST_ALL', 49],
      ['IP_UNICAST_IF', 50],
      ['IP_LOCAL_PORT_RANGE', 51],
    ],
  ],
  [
    41, // IPPROTO_IPV6
    [
      ['IPV6_UNICAST_HOPS', 16, UNCONNECTED],
      ['IPV6_MULTICAST_IF', 17, DATAGRAMS],
      ['IPV6_MULTICAST_HOPS', 18, DATAGRAMS],
      ['IPV6_MULTICAST_LOOP', 19],
      ['IPV6_MTU_DISCOVER', 23],
      ['IPV6_RECVERR', 25],
      ['IPV6_MULTICAST_ALL', 29],
      ['IPV6_RECVHOPLIMIT', 51],
      ['IPV6_RECVTCLASS', 66],
      ['IPV6_TCLASS', 67],
      ['IPV6_DONTFRAG', 62],
      ['IPV6_ADDR_PREFERENCES', 72],
      ['IPV6_MINHOPCOUNT', 73],
      ['IPV6_TRANSPARENT', 75],
      ['IPV6_UNICAST_IF', 76],
    ],
  ],
  [
    6, // IPPROTO_TCP
    [
      ['TCP_MAXSEG', 2, UNCONNECTED],
      ['TCP_SYNCNT', 7],
      ['TCP_LINGER2', 8],
      ['TCP_DEFER_ACCEPT', 9, UNCONNECTED],
      ['TCP_WINDOW_CLAMP', 10, UNCONNECTED],
      ['TCP_CONGESTION', 13],
      ['TCP_THIN_LINEAR_TIMEOUTS', 16],
      ['TCP_USER_TIMEOUT', 18],
      ['TCP_FASTOPEN', 23],
      ['TCP_NOTSENT_LOWAT', 25],
      ['TCP_SAVE_SYN', 27],
      ['TCP_FASTOPEN_CONNECT', 30],
      ['TCP_INQ', 36],
      ['TCP_TX_DELAY', 37],
    ],
  ],
  [
    17, // IPPROTO_UDP
    [
      ['UDP_NO_CHECK6_TX', 101],
      ['UDP_NO_CHECK6_RX', 102],
      ['UDP_SEGMENT', 103],
      ['UDP_GRO', 104],
    ],
  ],
];

const names = ['', ...OPTIONS.flatMap(([, options]) => options.map(([name]) => name)), 'multicast membership'];
const questions = Int32Array.from([
  ...[WAITING, 0, ALWAYS],
  ...OPTIONS.flatMap(([level, options]) =>
    options.flatMap(([, number, when = ALWAYS]) => [level, number, when] as const),
  ),
  ...[MEMBER, 0, ALWAYS],
]);

/**
 * Borrows descriptors of a process (pidfd_getfd(2)) and compares sockets with new ones of their kind in the same
 * network namespace. A process that cannot be asked has nothing.
 * @param fds Sockets, inotify and fanotify.
 * @param groups The `multicastGroups` of a process with sockets.
 */
export async function lookAtDescriptors(
  pid: number,
  fds: readonly number[],
  groups: Uint8Array = new Uint8Array(),
): Promise<Borrowed> {
  const differs = new Uint8Array(fds.length * names.length);
  if (fds.length > 0)
    await native()
      .lookAtDescriptors(pid, Int32Array.from(fds), questions, groups, differs)
      .catch(() => undefined);
  const options = new Map<number, string[]>();
  const waiting = new Set<number>();
  fds.forEach((fd, i) => {
    const [waits, ...rest] = differs.subarray(i * names.length, (i + 1) * names.length);
    if (waits === 1) waiting.add(fd);
    const set = names.slice(1).filter((_, at) => rest[at] === 1);
    if (set.length > 0) options.set(fd, [...new Set(set)]);
  });
  return { options, waiting };
}

/**
 * The groups that the interfaces of a process's network namespace have members of: family, interface and address of
 * each. Source: net/ipv4/igmp.c, igmp_mc_seq_show; net/ipv6/mcast.c, igmp6_mc_seq_show, Linux v6.12.
 */
export function multicastGroups(pid: number): Uint8Array {
  const groups: Buffer[] = [];
  const add = (family: number, index: number, address: Buffer): void => {
    const group = Buffer.alloc(24);
    new Int32Array(group.buffer, group.byteOffset, 2).set([family, index]);
    address.copy(group, 8);
    groups.push(group);
  };
  let index = 0;
  for (const line of (readProc(`${pid}/net/igmp`) ?? '').split('\n')) {
    index = Number(/^(\d+)\s/.exec(line)?.[1] ?? index);
    const group = /^\s+([0-9A-F]{8})\s/.exec(line)?.[1];
    // As the number that the machine reads its four bytes as.
    if (group !== undefined) add(AF_INET, index, Buffer.from(Uint32Array.of(parseInt(group, 16)).buffer));
  }
  for (const [, index6, group] of (readProc(`${pid}/net/igmp6`) ?? '').matchAll(/^(\d+)\s+\S+\s+([0-9a-f]{32})\s/gm))
    add(AF_INET6, Number(index6), Buffer.from(group as string, 'hex'));
  return Buffer.concat(groups);
}
