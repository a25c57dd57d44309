import fc from 'fast-check';
import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { native } from '../native.js';
import type { Connection } from './connection.js';
import { Conversation } from './conversation.js';
import { CriuError } from './criu-error.js';
import { criu_req_type, criu_resp } from './generated/criu.js';
import { PacketSocket } from './packet-socket.js';

/** Our end of a real socket; what the peer does is the test's affair. */
class Wire implements Connection {
  readonly pid = undefined;
  readonly ended = Promise.resolve({ stderr: '' });
  constructor(readonly socket: PacketSocket) {}
  get disconnected(): boolean {
    return this.socket.closed;
  }
  send: Connection['send'] = (...args) => this.socket.send(...args);
  receive: Connection['receive'] = (options) => this.socket.receive(options);
  disconnect(): void {
    this.socket.close();
  }
  close(): Connection['ended'] {
    this.disconnect();
    return this.ended;
  }
}

type Answer = Partial<criu_resp.$Properties>;
const encode = (fields: Answer): Uint8Array => criu_resp.encode({ type: criu_req_type.VERSION, success: true, ...fields }).finish();

/** Anything a peer may say: bytes, true answers, answers with some bytes changed or cut off. */
const answer = fc.oneof(
  fc.constant(encode({ version: { majorNumber: 4, minorNumber: 1 } })),
  fc.constant(encode({ type: criu_req_type.NOTIFY, notify: { script: 'pre-dump', pid: 5 } })),
  fc.constant(encode({ success: false, crErrno: 3, crErrmsg: 'no' })),
);
const mutated = fc.tuple(answer, fc.array(fc.tuple(fc.nat(40), fc.nat(255)), { maxLength: 4 }), fc.nat(60)).map(([bytes, changes, length]) => {
  const changed = Uint8Array.from(bytes).subarray(0, Math.max(1, length));
  for (const [index, value] of changes) if (index < changed.length) changed[index] = value;
  return changed;
});
const packet = fc.oneof(answer, mutated, fc.uint8Array({ minLength: 1, maxLength: 300 }));

test('whatever a peer sends, and when it closes: a request ends with an answer or a typed error, and nothing is left open', async () => {
  const before = readdirSync('/proc/self/fd').length;
  await fc.assert(
    fc.asyncProperty(fc.array(packet, { maxLength: 6 }), fc.boolean(), async (packets, closes) => {
      const [ours, theirs] = native().socketpairSeqpacket();
      const wire = new Wire(new PacketSocket(ours, 1 << 20));
      const peer = new PacketSocket(theirs, 1 << 20);
      const conversation = new Conversation(wire, { criuPath: 'peer', graceMs: 0 });
      for (const data of packets) await peer.send(data);
      if (closes) peer.close();
      try {
        const version = await conversation.version({ timeoutMs: 30 });
        expect(typeof version.text).toBe('string');
      } catch (error) {
        expect(error).toBeInstanceOf(CriuError);
        expect(['CRIU_PROTOCOL', 'CRIU_DIED', 'CRIU_REQUEST_FAILED', 'CRIU_TIMEOUT']).toContain((error as CriuError).code);
        await expect(conversation.version({})).rejects.toMatchObject({ code: 'CRIU_SESSION_ENDED' });
      }
      await conversation.close();
      peer.close();
    }),
    { numRuns: 300 },
  );
  expect(readdirSync('/proc/self/fd').length).toBe(before);
}, 60_000);
