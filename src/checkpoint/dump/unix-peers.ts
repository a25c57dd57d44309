import { execFile } from 'node:child_process';
import { readdir, readlink } from 'node:fs/promises';
import { promisify } from 'node:util';
import { CriuError, type UnixPeer } from '../../criu/index.js';
import { runningPids } from '../base/pids.js';
import { readProcess } from '../../proc/task.js';

const run = promisify(execFile);
const PATIENCE_MS = 5000;

/** One end of a connection, as ss(8) lists it. */
interface Socket {
  inode: number;
  path: string | undefined;
  peerInode: number;
}

/** CRIU says that a unix socket leads out of the tree, not which, nor whereto. Any other error comes back as it is. */
export async function withUnixPeers(error: unknown, pid: number): Promise<unknown> {
  if (!(error instanceof CriuError) || error.facts.problem !== 'unix-external') return error;
  const unixPeers = await unixPeersOf(runningPids(pid)).catch(() => []);
  return unixPeers.length === 0 ? error : new CriuError(error.code, { ...error.facts, unixPeers, cause: error.cause });
}

/** The connections of unix sockets that lead from these processes to others. */
async function unixPeersOf(pids: readonly number[]): Promise<UnixPeer[]> {
  const [first] = pids;
  if (first === undefined) return [];
  const own = await holdersOf(pids);
  // The kernel lists the sockets of one network namespace. It tells the other end by netlink alone, which Node.js does
  // not speak.
  const { stdout } = await run('nsenter', [`--net=/proc/${first}/ns/net`, 'ss', '-xanH'], { timeout: PATIENCE_MS });
  const sockets = new Map(parse(stdout).map((socket) => [socket.inode, socket]));
  const leading = [...sockets.values()].filter(
    ({ inode, peerInode }) => own.has(inode) && peerInode !== 0 && !own.has(peerInode),
  );
  if (leading.length === 0) return [];
  const others = await holdersOf((await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number));
  return leading.map(({ inode, peerInode }) => {
    const [pid = 0] = own.get(inode) ?? [];
    const path = sockets.get(peerInode)?.path;
    return {
      ...named(pid),
      inode,
      peerInode,
      ...(path === undefined ? {} : { path }),
      holders: (others.get(peerInode) ?? []).map(named),
    };
  });
}

/** `u_str ESTAB 0 0 /run/x 12 * 13`: a socket without a name has a star for one. */
function parse(text: string): Socket[] {
  return [...text.matchAll(/^u_\S+\s+\S+\s+\d+\s+\d+\s+(.*?) (\d+)\s+.*? (\d+)\s*$/gm)].map(
    ([, path, inode, peer]) => ({
      inode: Number(inode),
      path: path === '*' ? undefined : path,
      peerInode: Number(peer),
    }),
  );
}

/** Which of these processes have which sockets open, by inode number. */
async function holdersOf(pids: readonly number[]): Promise<Map<number, number[]>> {
  const holders = new Map<number, number[]>();
  for (const pid of pids) {
    const directory = `/proc/${pid}/fd`;
    const links = await readdir(directory).catch(() => []);
    const targets = await Promise.all(links.map((fd) => readlink(`${directory}/${fd}`).catch(() => '')));
    for (const inode of new Set(targets.flatMap((target) => /^socket:\[(\d+)\]$/.exec(target)?.[1] ?? [])))
      holders.set(Number(inode), [...(holders.get(Number(inode)) ?? []), pid]);
  }
  return holders;
}

function named(pid: number): { pid: number; name: string } {
  return { pid, name: readProcess(pid)?.name ?? '?' };
}
