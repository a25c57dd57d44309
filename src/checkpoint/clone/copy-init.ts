/** The other end of `stillframe-init` (native/init/init.c), pid 1 of a copy. */
import { existsSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { CriuClient, type CriuServiceClient, PacketSocket } from '../../criu/index.js';
import { builtPaths } from '../../installed.js';
import { native } from '../../native.js';
import { Child, type ProcessEnd } from '../../process.js';
import { whileWanted } from '../../while-wanted.js';
import { CheckpointError } from '../base/checkpoint-error.js';

const MAX_PACKET_BYTES = 8192;
/** Where it holds the directories that CRIU looks for: its socket's other end was made there. */
const IMAGES_FD = 5;
const WORK_FD = 6;

export interface InitOptions {
  /** Told of the launcher before it makes anything: it is to be put into the copy's cgroup. */
  onLauncher: (pid: number) => void;
  /** Told of pid 1, as this process sees it, as soon as there is one. */
  onInit: (pid: number) => void;
  net: 'host' | 'own' | number;
  hostname: string | undefined;
  signal: AbortSignal | undefined;
}

/**
 * Pid 1 of a pid and mount namespace of its own. Until `keep` it ends when this process lets go of it, however that
 * comes, and all that runs in the namespaces with it.
 */
export class CopyInit {
  /** As this process sees it. */
  readonly pid: number;
  /** How it ended: with the status of the tree's root, as a shell has it. Resolves when it has been reaped. */
  readonly ended: Promise<ProcessEnd>;
  readonly #child: Child;
  readonly #socket: PacketSocket;

  private constructor(child: Child, socket: PacketSocket) {
    this.pid = child.pid;
    this.ended = child.ended;
    this.#child = child;
    this.#socket = socket;
    void child.ended.then(() => socket.peerIsGone());
  }

  /** @throws CheckpointError CLONE_FAILED, INIT_MISSING; the signal's reason */
  static async start({ onLauncher, onInit, net, hostname, signal }: InitOptions): Promise<CopyInit> {
    const [ours, theirs] = native().socketpairSeqpacket();
    const socket = new PacketSocket(ours, MAX_PACKET_BYTES);
    let init: CopyInit | undefined;
    try {
      let launcher: Child;
      try {
        launcher = startLauncher(theirs, net, hostname);
      } finally {
        // The socket ends with the last of the launcher and pid 1. The launcher's own end says nothing: it may be seen
        // before its last packet is.
        native().close(theirs);
      }
      onLauncher(launcher.pid);
      await socket.send(Buffer.from('go'));
      const answer = await text(socket, signal);
      const pid = /^child (\d+)$/.exec(answer ?? '')?.[1];
      if (pid === undefined) throw failure(answer, 'clone');
      init = new CopyInit(Child.adopt(Number(pid)), socket);
      onInit(init.pid);
      await init.#answer('namespaces', signal);
      return init;
    } catch (error) {
      if (init === undefined) socket.close();
      else await init.end();
      throw error;
    }
  }

  /** Mounts an overlay at `dir`/merged. @throws CheckpointError CLONE_FAILED */
  async overlay(lower: string, dir: string): Promise<void> {
    await this.#ask(['overlay', lower, dir], lower);
  }

  /** @throws CheckpointError CLONE_FAILED */
  async bind(from: string, to: string): Promise<void> {
    await this.#ask(['bind', from, to], to);
  }

  /** `cp -a`. @throws CheckpointError CLONE_FAILED */
  async copy(flag: string, from: string, to: string): Promise<void> {
    await this.#ask(['copy', flag, from, to], to);
  }

  /** @throws CheckpointError CLONE_FAILED */
  async detach(path: string): Promise<void> {
    await this.#ask(['detach', path], path);
  }

  /**
   * A CRIU in the namespaces. It takes `imagesDir` and `workDir` as descriptors of this process.
   * @param lastPid Its own pid, and those of its children, are the next ones.
   * @throws CheckpointError CLONE_FAILED; CriuError
   */
  async startCriu(
    criuPath: string,
    { lastPid, images, work }: { lastPid: number; images: Directory; work: Directory },
  ): Promise<CriuServiceClient> {
    const [fd] = await this.#ask(['criu', criuPath, String(lastPid), images.path, work.path], criuPath);
    if (fd === undefined)
      throw new CheckpointError('CLONE_FAILED', { step: 'criu', path: criuPath, reason: 'no socket came' });
    const peerFds = new Map([
      [images.fd, IMAGES_FD],
      [work.fd, WORK_FD],
    ]);
    return await CriuClient.connect({ fd, peerFds });
  }

  /**
   * The tree runs: from here on it ends by itself alone, with its last process.
   * @param root The tree's root, as its pid namespace has it.
   */
  async keep(root: number): Promise<void> {
    await this.#ask(['keep', String(root)], undefined);
    this.#socket.close();
    this.#child.keepLoop(false);
  }

  /** Ends it, and all that runs in the namespaces. */
  async end(): Promise<void> {
    this.#child.kill('SIGKILL');
    this.#socket.close();
    await this.ended;
  }

  async #ask(words: readonly string[], path: string | undefined): Promise<number[]> {
    await this.#socket.send(Buffer.from(words.map((word) => `${word}\0`).join('')));
    return await this.#answer(words[0]!, undefined, path);
  }

  async #answer(step: string, signal: AbortSignal | undefined, path?: string): Promise<number[]> {
    const packet = await whileWanted(this.#socket.receive(), signal);
    const answer = packet?.data.toString();
    if (answer === 'ok') return packet!.fds;
    for (const fd of packet?.fds ?? []) native().close(fd);
    throw failure(answer, step, path);
  }
}

function startLauncher(socket: number, net: InitOptions['net'], hostname: string | undefined): Child {
  const fds = [undefined, undefined, undefined, socket, ...(typeof net === 'number' ? [net] : [])];
  const args = [
    ...(net === 'own' ? ['--own-net'] : typeof net === 'number' ? ['--net', '4'] : []),
    ...(hostname === undefined ? [] : ['--hostname', hostname]),
  ];
  return Child.start({ path: initPath(), args, env: environment(), cwd: '/', fds, umask: 0o077 });
}

/** Of CRIU and cp, and for as long as the copy runs in its /proc: what else this process has is not for the copy. */
function environment(): NodeJS.ProcessEnv {
  const { PATH, HOME, CRIU_CONFIG_FILE } = process.env;
  return { PATH, HOME, CRIU_CONFIG_FILE };
}

export interface Directory {
  path: string;
  fd: number;
}

async function text(socket: PacketSocket, signal: AbortSignal | undefined): Promise<string | undefined> {
  return (await whileWanted(socket.receive(), signal))?.data.toString();
}

/** @param answer Undefined when it has ended. */
function failure(answer: string | undefined, step: string, path?: string): CheckpointError {
  const [, errno, where] = /^error (\d+) (.*)$/s.exec(answer ?? '') ?? [];
  return new CheckpointError('CLONE_FAILED', {
    step: where ?? step,
    path,
    reason: errno === undefined ? 'it ended' : getSystemErrorName(-Number(errno)),
  });
}

/** @throws CheckpointError INIT_MISSING */
export function initPath(): string {
  const tried = builtPaths('stillframe-init');
  const path = tried.find((path) => existsSync(path));
  if (path === undefined) throw new CheckpointError('INIT_MISSING', { tried });
  return path;
}
