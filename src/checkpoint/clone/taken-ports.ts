/** Ports that a copy in this process's network would have to share with a program that listens on them. */
import { readFileSync } from 'node:fs';
import { readListeningSockets, type ListeningSocket } from '../../criu/index.js';
import { CheckpointError } from '../base/checkpoint-error.js';

/** proc(5), /proc/net/tcp: state 0A is TCP_LISTEN. */
const LISTENING = /^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) \S+ 0A /gm;

/**
 * CRIU would fail on the first of them when all processes have been made.
 * @throws CheckpointError PORTS_TAKEN with each; CriuError CRIU_IMAGE
 */
export async function refuseTakenPorts(imagesDir: string): Promise<void> {
  const wanted = await readListeningSockets(imagesDir);
  if (wanted.length === 0) return;
  const taken = [...listening(4), ...listening(6)];
  const ports = wanted.filter((socket) => taken.some((other) => clash(socket, other))).map(({ port }) => port);
  if (ports.length > 0) throw new CheckpointError('PORTS_TAKEN', { ports: [...new Set(ports)] });
}

function listening(family: 4 | 6): ListeningSocket[] {
  let text: string;
  try {
    text = readFileSync(`/proc/net/tcp${family === 6 ? '6' : ''}`, 'latin1');
  } catch {
    return []; // a kernel without IPv6
  }
  return [...text.matchAll(LISTENING)].map(([, address, port]) => ({
    family,
    // Groups of four bytes, each as a number of this machine.
    address: Buffer.from(address!.match(/.{8}/g)!.flatMap((word) => [...Buffer.from(word, 'hex').reverse()])),
    port: parseInt(port!, 16),
  }));
}

/** The address that stands for all takes the port on each, of IPv4 as well where it is one of IPv6. */
function clash(a: ListeningSocket, b: ListeningSocket): boolean {
  if (a.port !== b.port) return false;
  const [anyA, anyB] = [isAny(a), isAny(b)];
  if (a.family === b.family) return anyA || anyB || a.address.equals(b.address);
  return (a.family === 6 && anyA) || (b.family === 6 && anyB);
}

function isAny({ address }: ListeningSocket): boolean {
  return address.every((byte) => byte === 0);
}
