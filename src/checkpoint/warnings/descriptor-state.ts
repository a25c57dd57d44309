import { listProc, readProc, readProcLink } from '../../proc/task.js';
import { takeTurns } from '../../yield-to-loop.js';
import { lookAtDescriptors, multicastGroups } from './borrowed-descriptors.js';

const kinds = [
  'EFD_SEMAPHORE',
  'timerfd at a CLOCK_REALTIME time',
  'unread UDP datagrams',
  'unread inotify events',
  'unread fanotify events',
  'unread packets',
  'socket options',
] as const;
export type DescriptorState = (typeof kinds)[number];

/** A state of one descriptor, whose number is the `value`. */
export interface FoundDescriptorState {
  pid: number;
  tid: number;
  what: DescriptorState;
  value: string;
  options?: string[];
}

export function isOfDescriptor(what: string): boolean {
  return (kinds as readonly string[]).includes(what);
}

/** Before its inode and `]`. */
const SOCKET = 'socket:[';
const EVENTS = {
  'anon_inode:inotify': 'unread inotify events',
  'anon_inode:[fanotify]': 'unread fanotify events',
} as const;

/** What CRIU does not dump of a process's descriptors; empty when it has gone. */
export async function descriptorStates(pid: number, networks: Networks): Promise<FoundDescriptorState[]> {
  const found: FoundDescriptorState[] = [];
  const note = (fd: number, what: DescriptorState, options?: string[]): void => {
    found.push({ pid, tid: pid, what, value: String(fd), ...(options === undefined ? {} : { options }) });
  };
  /** What /proc says too little of, and what it is when something waits there to be read. */
  const toBorrow = new Map<number, DescriptorState>();
  let network: Network | undefined;
  let turn = performance.now();
  for (const name of listProc(`${pid}/fd`)) {
    const fd = Number(name);
    const target = readProcLink(`${pid}/fd/${fd}`) ?? '';
    if (target in EVENTS) toBorrow.set(fd, EVENTS[target as keyof typeof EVENTS]);
    else if (target.startsWith(SOCKET)) {
      toBorrow.set(fd, 'unread packets');
      network ??= networks.of(pid);
      if (network.withDatagrams.has(target.slice(SOCKET.length, -1))) note(fd, 'unread UDP datagrams');
    }
    const what = stateOf(pid, fd, target);
    if (what !== undefined) note(fd, what);
    turn = await takeTurns(turn);
  }
  const { options, waiting } = await lookAtDescriptors(pid, [...toBorrow.keys()], network?.multicastGroups);
  for (const [fd, what] of toBorrow) if (waiting.has(fd)) note(fd, what);
  for (const [fd, set] of options) note(fd, 'socket options', set);
  return found;
}

function stateOf(pid: number, fd: number, target: string): DescriptorState | undefined {
  if (target === 'anon_inode:[eventfd]') {
    // Source: fs/eventfd.c, eventfd_show_fdinfo, Linux v6.6.
    const isSemaphore = /^eventfd-semaphore:\s*1$/m.test(readProc(`${pid}/fdinfo/${fd}`) ?? '');
    return isSemaphore ? 'EFD_SEMAPHORE' : undefined;
  }
  if (target === 'anon_inode:[timerfd]' && isAbsoluteOfRealtime(readProc(`${pid}/fdinfo/${fd}`) ?? ''))
    return 'timerfd at a CLOCK_REALTIME time';
  return undefined;
}

/**
 * Armed, on clock 0 (CLOCK_REALTIME), with flag 1 (TFD_TIMER_ABSTIME), which fdinfo writes in octal.
 * Source: fs/timerfd.c, timerfd_show, Linux v6.12.
 */
function isAbsoluteOfRealtime(fdinfo: string): boolean {
  const flags = /^settime flags:\s*([0-7]+)$/m.exec(fdinfo)?.[1] ?? '0';
  return /^clockid:\s*0$/m.test(fdinfo) && (parseInt(flags, 8) & 1) !== 0 && !/^it_value:\s*\(0, 0\)$/m.test(fdinfo);
}

/** What the tables of a network namespace say. */
interface Network {
  /** The UDP sockets that hold datagrams, by inode. */
  withDatagrams: ReadonlySet<string>;
  multicastGroups: Uint8Array;
}

/** The network namespaces: each is asked once, however many processes are in it. */
export class Networks {
  readonly #known = new Map<string, Network>();

  of(pid: number): Network {
    const namespace = readProcLink(`${pid}/ns/net`) ?? '';
    let network = this.#known.get(namespace);
    if (network === undefined) {
      const udp = ['udp', 'udp6'].flatMap((table) => withDatagrams(readProc(`${pid}/net/${table}`) ?? ''));
      network = { withDatagrams: new Set(udp), multicastGroups: multicastGroups(pid) };
      this.#known.set(namespace, network);
    }
    return network;
  }
}

/**
 * Source: net/ipv4/udp.c, udp4_format_sock, Linux v6.12: `sl local remote st tx:rx tr:when retransmit uid timeout
 * inode`.
 */
function withDatagrams(table: string): string[] {
  return table
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => parseInt(fields[4]?.split(':')[1] ?? '0', 16) > 0)
    .flatMap((fields) => fields[9] ?? []);
}
