import { listProc, readProc, readProcLink } from '../../proc/task.js';

/** TCP_CLOSE, TCP_LISTEN. Source: Linux, include/net/tcp_states.h. */
const NOT_CONNECTED = new Set(['07', '0A']);

/**
 * Has any of the processes a TCP connection, in whatever state after its first packet? A connection that is made
 * a moment later is not seen: CRIU, told that there is none, then refuses the dump, and nothing is lost.
 */
export function hasTcpConnections(pids: Iterable<number>): boolean {
  for (const pid of pids) {
    const sockets = socketsOf(pid);
    if (sockets.size === 0) continue;
    // The tables are those of the process's own network namespace.
    for (const table of ['tcp', 'tcp6']) {
      if (connectedInodes(readProc(`${pid}/net/${table}`) ?? '').some((inode) => sockets.has(inode))) return true;
    }
  }
  return false;
}

/** The sockets' inodes of a /proc/net/tcp that are not merely bound or listening. */
export function connectedInodes(table: string): string[] {
  return table
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields.length > 9 && !NOT_CONNECTED.has(fields[3] ?? ''))
    .map((fields) => fields[9] as string);
}

function socketsOf(pid: number): Set<string> {
  const inodes = new Set<string>();
  for (const name of listProc(`${pid}/fd`)) {
    const inode = /^socket:\[(\d+)\]$/.exec(readProcLink(`${pid}/fd/${name}`) ?? '')?.[1];
    if (inode !== undefined) inodes.add(inode);
  }
  return inodes;
}
