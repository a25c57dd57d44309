/**
 * What becomes of each object that state.c can hold. docs/what-comes-back.md shows it; what-comes-back.test.ts holds
 * both to the truth.
 */

import type { TaskState } from '../../../../src/checkpoint/warnings/task-state.js';

export type Fate = 'comes back' | 'repaired' | 'lost' | 'refused';

export interface Row {
  /** As state.c names it. */
  name: string;
  what: string;
  fate: Fate;
  /** What the restored process sees, or the code of the error and what its message says. */
  note?: string;
  /** `lost`: of a row of options, those that are. The others come back. */
  options?: string[];
  /** `refused`: by what, and a part of the message. */
  refusal?: { by: 'checkpoint' | 'restore'; code: string; says: string };
  /** What the checkpoint's STATE_LOST calls it, where /proc shows it. */
  warnedAs?: TaskState['what'];
  /** What it calls the option, where the row is of one that is not among `options`. */
  warnedOption?: string;
  /** It needs a process of its own, because it would disturb others. */
  alone?: true;
}

const warned = (row: Row, warnedAs: TaskState['what']): Row => ({ ...row, warnedAs });

const warnedMembership = (row: Row): Row => ({
  ...warned(row, 'socket options'),
  warnedOption: 'multicast membership',
});

type Extra = Omit<Row, 'name' | 'what' | 'fate'>;
const back = (name: string, what: string, extra: Extra = {}): Row => ({ name, what, fate: 'comes back', ...extra });
const repaired = (name: string, what: string, note: string): Row => ({
  name,
  what,
  fate: 'repaired',
  note,
});
const lost = (name: string, what: string, note: string, options?: string[]): Row => ({
  name,
  what,
  fate: 'lost',
  note,
  ...(options === undefined ? {} : { options }),
});
const refused = (
  name: string,
  what: string,
  says: string,
  { by = 'checkpoint' as const, code = 'CRIU_REQUEST_FAILED' }: { by?: 'checkpoint' | 'restore'; code?: string } = {},
): Row => ({ name, what, fate: 'refused', refusal: { by, code, says }, alone: true });

const alone = { alone: true } as const;

const socketOptions = ['TIMESTAMP', 'MAX_PACING_RATE', 'INCOMING_CPU', 'BUSY_POLL', 'RXQ_OVFL', 'ZEROCOPY'];
const ipOptions = [
  'IP_RECVERR',
  'IP_MTU_DISCOVER',
  'IP_BIND_ADDRESS_NO_PORT',
  'IP_TRANSPARENT',
  'IP_RECVTTL',
  'IP_RECVTOS',
  'IP_MULTICAST_LOOP',
];
const tcpOptions = [
  'TCP_USER_TIMEOUT',
  'TCP_DEFER_ACCEPT',
  'TCP_SYNCNT',
  'TCP_LINGER2',
  'TCP_NOTSENT_LOWAT',
  'TCP_MAXSEG',
  'TCP_WINDOW_CLAMP',
];

export const sections: readonly { title: string; rows: readonly Row[] }[] = [
  {
    title: 'Locks on files',
    rows: [
      back('flock', 'flock(2)'),
      back('flock_mapped', 'flock(2), of a file that is mapped too'),
      back('ofd_lock', 'lock of an open file description'),
      back('ofd_lock_mapped', 'the same, of a file that is mapped too'),
      back('posix_lock', 'POSIX record lock'),
      repaired(
        'posix_lock_mapped',
        'POSIX record locks on a file that is mapped shared (SQLite in WAL mode)',
        'CRIU loses them as it closes the descriptor of the mapping. They are set again before the tree runs',
      ),
      repaired('posix_lock_mapped_private', 'the same, mapped private', 'as above'),
      back('lease_read', 'read lease', alone),
      back('lease_write', 'write lease', alone),
    ],
  },
  {
    title: 'Timers and signals',
    rows: [
      back('timerfd', 'timerfd, periodic'),
      back('timerfd_once', 'timerfd, once'),
      back('timerfd_off', 'timerfd, disarmed'),
      back('timerfd_off_with_period', 'timerfd, disarmed with a period', alone),
      back('timerfd_unread', 'timerfd, expirations not read yet'),
      repaired(
        'timerfd_fast',
        'timerfd with a period shorter than the frozen window',
        'CRIU takes it for disarmed. It fires at once and goes on',
      ),
      repaired('timerfd_fast_absolute', 'the same, started at an absolute time', 'as above'),
      repaired('timerfd_boottime_fast', 'the same, of CLOCK_BOOTTIME', 'as above'),
      repaired(
        'timerfd_absolute',
        'timerfd at an absolute time of CLOCK_MONOTONIC or CLOCK_BOOTTIME',
        'CRIU has it fire up to a second early. It fires after what was left, exactly, and is a relative one now',
      ),
      warned(
        lost(
          'timerfd_absolute_realtime',
          'timerfd at an absolute time of CLOCK_REALTIME',
          'fires after what was left at the checkpoint, less up to a second, not at its time of day',
        ),
        'timerfd at a CLOCK_REALTIME time',
      ),
      warned(back('timerfd_cancel_on_set', 'TFD_TIMER_CANCEL_ON_SET', alone), 'timerfd at a CLOCK_REALTIME time'),
      back('itimer_real', 'setitimer(2), ITIMER_REAL', alone),
      back('itimer_real_fast', 'the same, with a period shorter than the frozen window', alone),
      back('itimer_virtual', 'ITIMER_VIRTUAL', alone),
      back('itimer_prof', 'ITIMER_PROF', alone),
      back('alarm', 'alarm(2)', alone),
      back('posix_timer', 'timer_create(2): number, period, signal and value', alone),
      back('posix_timer_fast', 'the same, with a period shorter than the frozen window', alone),
      back('posix_timer_cpu', 'of the CPU time of the process'),
      back('posix_timer_thread', 'for one thread (SIGEV_THREAD_ID)'),
      back('posix_timer_none', 'without a signal (SIGEV_NONE)'),
      back('posix_timer_pending', 'whose signal is blocked and waits', alone),
      back('posix_timer_overrun', 'overruns', alone),
      back('signal_pending', 'signal that waits for the process'),
      back('signal_queue', 'realtime signals that wait, in their order and with their values'),
      back('signal_thread', 'signal that waits for a thread'),
      back('signal_mask_and_handlers', 'blocked, ignored and caught signals, flags of handlers', alone),
      back('signal_stack', 'alternate stack'),
      back('signalfd', 'signalfd, with a signal that waits'),
    ],
  },
  {
    title: 'Descriptors',
    rows: [
      back('file_flags', 'O_APPEND, O_NONBLOCK, O_NOATIME, close-on-exec'),
      back('file_offset_shared', 'offset that several descriptors share'),
      back('file_opath', 'O_PATH'),
      back('directory_offset', 'position in a directory'),
      back('file_deleted', 'file that is deleted and open, up to the limit for ghost files'),
      back('file_read_only', 'read-only file'),
      back('file_owner_and_signal', 'owner and signal of O_ASYNC'),
      back('file_write_hint', 'F_SET_RW_HINT, which belongs to the file'),
      back('pipe', 'pipe, with what is in it'),
      back('pipe_size', 'size of a pipe'),
      refused('pipe_packets', 'pipe of packets (O_DIRECT)', 'packetized mode'),
      back('pipe_half_closed', 'pipe with one end closed'),
      back('fifo', 'FIFO, with what is in it'),
      back('eventfd', 'eventfd'),
      warned(
        lost('eventfd_semaphore', 'EFD_SEMAPHORE', 'a plain eventfd: one read takes the whole count'),
        'EFD_SEMAPHORE',
      ),
      back('epoll', 'epoll, its masks and data'),
      back('epoll_edge_waiting', 'event of an edge-triggered epoll that was not fetched yet'),
      lost(
        'epoll_edge_delivered',
        'event of an edge-triggered epoll that was fetched',
        'is given once more while there is something to read; a program must expect that anyhow',
      ),
      back('epoll_oneshot_spent', 'EPOLLONESHOT that was fetched'),
      back('epoll_exclusive', 'EPOLLEXCLUSIVE'),
      back('epoll_closed_descriptor', 'epoll on a descriptor that is closed, with another of the same file open'),
      back('epoll_nested', 'epoll on an epoll'),
      back('inotify', 'inotify, its watches and their numbers'),
      warned(
        lost('inotify_queue', 'events of inotify that were not read yet', 'the queue is empty'),
        'unread inotify events',
      ),
      back('fanotify', 'fanotify, its marks'),
      warned(
        lost('fanotify_queue', 'events of fanotify that were not read yet', 'the queue is empty'),
        'unread fanotify events',
      ),
      back('fanotify_by_id', 'fanotify that names files by their ids (FAN_REPORT_FID)', alone),
      back('pidfd', 'pidfd'),
      back('namespace_descriptor', 'descriptor of a namespace'),
      refused('userfaultfd', 'userfaultfd', '[userfaultfd]'),
      refused('perf_event', 'perf_event_open(2)', '[perf_event]'),
      refused('io_uring', 'io_uring', 'io_uring'),
      back('aio_context', 'context of io_setup(2)'),
    ],
  },
  {
    title: 'Sockets',
    rows: [
      back('unix_stream_queue', 'unix stream, with what is in it'),
      back('unix_seqpacket_queue', 'unix packets, each as it was sent'),
      lost(
        'unix_datagram_queue',
        'unix datagrams behind an empty one',
        'the empty datagram and all behind it are gone; without an empty one, all come back',
      ),
      back('unix_descriptor_in_flight', 'descriptor that was sent and not received yet'),
      refused(
        'unix_credentials_in_flight',
        'credentials that were sent and not received yet',
        'Control messages in queue',
      ),
      back('unix_shut_down', 'shutdown(2) of one direction'),
      back('unix_listener', 'listening unix socket'),
      repaired(
        'unix_connection_waiting',
        'unix connection that is made and not accepted yet',
        "CRIU alone refuses to restore it when its descriptor is lower than the listener's",
      ),
      back('unix_peer_credentials', 'SO_PEERCRED'),
      { ...warned(lost('unix_peek_offset', 'SO_PEEK_OFF', 'off'), 'socket options'), warnedOption: 'SO_PEEK_OFF' },
      warned(lost('options_unix', 'options of a unix socket', 'off', ['PASSPIDFD']), 'socket options'),
      warned(
        lost('options_tcp_listener', 'options of a listening TCP socket', 'as on a new socket', [
          ...socketOptions,
          ...ipOptions,
          ...tcpOptions,
          'TCP_FASTOPEN',
          'TCP_THIN_LINEAR_TIMEOUTS',
        ]),
        'socket options',
      ),
      warned(
        lost(
          'options_tcp_unconnected',
          'options of a TCP socket that is not connected',
          'as on a new socket',
          tcpOptions,
        ),
        'socket options',
      ),
      warned(
        lost('options_tcp_connection', 'options of a TCP connection', 'as on a new socket', [
          ...socketOptions.filter((option) => option !== 'INCOMING_CPU'),
          ...ipOptions,
          ...tcpOptions,
        ]),
        'socket options',
      ),
      warned(
        lost('options_udp', 'options of a UDP socket', 'as on a new socket', [
          ...socketOptions,
          ...ipOptions,
          'IP_MULTICAST_TTL',
          'UDP_SEGMENT',
          'UDP_GRO',
        ]),
        'socket options',
      ),
      warned(
        lost('options_ipv6', 'options of an IPv6 socket', 'as on a new socket', ['IPV6_UNICAST_HOPS', 'IPV6_TCLASS']),
        'socket options',
      ),
      warned(
        lost('options_structured', 'options of more than one number', "the kernel's default", ['TCP_CONGESTION']),
        'socket options',
      ),
      back('socket_filter', 'filter (SO_ATTACH_FILTER)'),
      back('tcp_backlog', 'backlog of a listening TCP socket'),
      back('tcp_connection', 'TCP connection within the tree, with what is in it (`tcpEstablished`)', alone),
      back('tcp6_connection', 'the same, IPv6', alone),
      back('tcp_half_closed', 'TCP connection with one direction shut down', alone),
      lost('tcp_urgent_data', 'urgent data (MSG_OOB)', 'gone'),
      warned(lost('udp_queue', 'datagrams that were not received yet', 'gone'), 'unread UDP datagrams'),
      back('udp_connected', 'peer of a UDP socket'),
      warnedMembership(lost('udp_multicast_membership', 'membership in a multicast group', 'it is no member')),
      warnedMembership(lost('udp6_multicast_membership', 'the same, IPv6', 'it is no member')),
      refused('udp_corked_data', 'datagram that is begun and not sent (UDP_CORK)', 'corked'),
      back('netlink', 'netlink, its address and groups'),
      back('packet_socket', 'packet socket'),
      warned(
        lost('packet_socket_queue', 'packets that a packet socket has not received yet', 'gone'),
        'unread packets',
      ),
      back('raw_socket', 'raw socket'),
      warned(lost('raw_socket_queue', 'packets that a raw socket has not received yet', 'gone'), 'unread packets'),
    ],
  },
  {
    title: 'Memory',
    rows: [
      back('madvise_dontfork', 'MADV_DONTFORK'),
      back('madvise_dontdump', 'MADV_DONTDUMP'),
      back('madvise_wipeonfork', 'MADV_WIPEONFORK'),
      back('madvise_mergeable', 'MADV_MERGEABLE'),
      back('madvise_hugepage', 'MADV_HUGEPAGE'),
      back('madvise_nohugepage', 'MADV_NOHUGEPAGE'),
      back('madvise_sequential', 'MADV_SEQUENTIAL'),
      back('madvise_random', 'MADV_RANDOM'),
      back('madvise_free', 'MADV_FREE'),
      back('madvise_guard', 'MADV_GUARD_INSTALL'),
      lost('mseal', 'mseal(2)', 'not sealed'),
      back('map_noreserve', 'MAP_NORESERVE'),
      back('map_growsdown', 'MAP_GROWSDOWN'),
      back('map_none', 'PROT_NONE, with what is in it'),
      back('mlock', 'mlock(2)'),
      {
        ...lost('mlock_onfault', 'mlock2(2), MLOCK_ONFAULT', 'a plain mlock(2): all its pages are in memory'),
        ...alone,
      },
      { ...lost('mlockall_future', 'mlockall(2), MCL_FUTURE', 'what is mapped from then on is not locked'), ...alone },
      back('mapping_name', 'name of a mapping (PR_SET_VMA_ANON_NAME)'),
      back('mapping_name_shared', 'shared anonymous mapping'),
      lost('memory_policy', 'mbind(2)', "the process's policy"),
      { ...lost('memory_policy_task', 'set_mempolicy(2)', 'the default'), ...alone },
      back('protection_key', 'key of pkey_mprotect(2)', alone),
      back('memfd', 'memfd, its contents, mode and position'),
      back('memfd_seals', 'seals of a memfd'),
      back('memfd_mapped', 'memfd that is mapped and closed'),
      back('memfd_noexec', 'MFD_NOEXEC_SEAL'),
      refused('sysv_shm', "System V shared memory of the host's IPC namespace", 'IPC'),
      back('sysv_semaphore', "System V semaphore of the host's, which stays there"),
      back('sysv_message', "System V message of the host's, which stays there"),
      lost('sysv_semaphore_undo', 'SEM_UNDO', 'undone when the old process ended, and not done again'),
      refused('posix_message_queue', 'POSIX message queue', "Can't lookup mount"),
      back('posix_shm', 'POSIX shared memory that is unlinked'),
    ],
  },
  {
    title: 'Processes',
    rows: [
      back('nice', 'nice value', alone),
      back('sched_batch', 'SCHED_BATCH', alone),
      back('sched_fifo', 'SCHED_FIFO and its priority', alone),
      back('sched_reset_on_fork', 'SCHED_RESET_ON_FORK', alone),
      warned(lost('cpu_affinity', 'CPUs that a thread may run on', 'those of the restoring process'), 'CPU affinity'),
      lost('io_priority', 'ionice(1)', 'none'),
      back('oom_score_adj', 'oom_score_adj'),
      warned(lost('coredump_filter', 'coredump_filter', 'as of the restoring process'), 'coredump_filter'),
      warned(lost('autogroup', 'nice value of the autogroup', '0'), 'autogroup nice value'),
      back('loginuid', 'loginuid'),
      back('thread_name_and_nice', 'name and nice value of a thread', alone),
      back('name', 'name', alone),
      back('parent_death_signal', 'PR_SET_PDEATHSIG', alone),
      refused(
        'parent_death_signal_of_root',
        'the same, of the root of the tree, with a signal that ends it',
        'ended already',
        {
          by: 'restore',
          code: 'NOT_RUNNING',
        },
      ),
      back('child_subreaper', 'PR_SET_CHILD_SUBREAPER'),
      back('not_dumpable', 'PR_SET_DUMPABLE', alone),
      warned(lost('timer_slack', 'PR_SET_TIMERSLACK', '50 µs'), 'timer slack'),
      back('thp_disable', 'PR_SET_THP_DISABLE', alone),
      back('no_new_privileges', 'PR_SET_NO_NEW_PRIVS', alone),
      back('keep_capabilities', 'PR_SET_KEEPCAPS', alone),
      back('secure_bits', 'PR_SET_SECUREBITS', alone),
      { ...lost('time_stamp_counter', 'PR_SET_TSC', 'the counter can be read'), ...alone },
      back('io_flusher', 'PR_SET_IO_FLUSHER', alone),
      warned(lost('memory_merge', 'PR_SET_MEMORY_MERGE', 'off'), 'PR_SET_MEMORY_MERGE'),
      { ...lost('deny_write_execute', 'PR_SET_MDWE', 'off'), ...alone },
      lost('mce_kill', 'PR_MCE_KILL', 'the default'),
      back('speculation', 'PR_SET_SPECULATION_CTRL', alone),
      back('core_scheduling', 'PR_SCHED_CORE, none', alone),
      back('umask', 'umask'),
      back('working_directory', 'working directory', alone),
      back('root_directory', 'root directory', alone),
      warned({ ...lost('personality', 'personality(2)', '0'), ...alone }, 'personality'),
      back('resource_limits', 'limits (setrlimit)', alone),
      back('groups', 'supplementary groups', alone),
      back('capabilities', 'capabilities: all five sets', alone),
      back('seccomp_filter', 'filter of seccomp(2)', alone),
      { ...lost('keyring', 'session keyring', "the restoring process's"), ...alone },
      back('zombie', 'child that has ended, its status'),
      back('zombie_killed', 'child that was killed, its signal'),
      back('child_stopped', 'child that is stopped'),
      back('child_stopped_unasked', 'child that stopped and was not waited for yet', alone),
      warned(
        lost('child_exit_signal', 'clone(2) with another signal than SIGCHLD', 'a child like any other'),
        'exit signal',
      ),
      lost('cpu_time', 'CPU time used', 'begins at 0'),
      back('priority_inheritance_futex', 'robust list'),
      back('rseq', 'rseq(2)', alone),
      back('membarrier', 'registration of membarrier(2)'),
    ],
  },
];

const words: Record<Fate, string> = {
  'comes back': 'comes back',
  repaired: '**repaired**',
  lost: '**lost**',
  refused: 'refused',
};

/** The tables of docs/what-comes-back.md. */
export function asMarkdown(): string {
  return sections.map(({ title, rows }) => [`## ${title}`, '', ...asTable(rows)].join('\n')).join('\n\n');
}

function asTable(rows: readonly Row[]): string[] {
  const lines = rows.map(({ what, fate, note, options, refusal, warnedAs }) => {
    const warning = fate === 'lost' && warnedAs !== undefined ? ', with a warning' : '';
    const which = options === undefined ? '' : ` ${options.map((option) => `\`${option}\``).join(', ')}`;
    const how = refusal === undefined ? note : `\`${refusal.code}\` at the ${refusal.by}`;
    return [what, `${words[fate]}${warning}${which}`, how ?? ''];
  });
  const all = [['Object', 'After a restore', 'How'], ...lines];
  const [first = [], ...rest] = all.map((cells) => `| ${cells.join(' | ')} |`.replaceAll('|  |', '| |'));
  return [first as string, '| --- | --- | --- |', ...rest];
}
