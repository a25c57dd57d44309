import fc from 'fast-check';
import { closeSync, openSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { native } from '../native.js';
import type { Connection } from './process/criu-connection.js';
import { Conversation } from './client/session.js';
import { CriuError } from './errors/criu-error.js';
import { criu_req_type, criu_resp } from './generated/criu.js';
import { notificationScripts, type OnNotify } from './rpc/notification.js';
import { PacketSocket } from './process/packet-socket.js';
import { criuErrorOf } from './client/exchange.js';

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
const encode = (fields: Answer): Uint8Array =>
  criu_resp.encode({ type: criu_req_type.VERSION, success: true, ...fields }).finish();
const version = encode({ version: { majorNumber: 4, minorNumber: 1 } });
const notification = (script: string, pid?: number): Uint8Array =>
  encode({ type: criu_req_type.NOTIFY, notify: { script, ...(pid === undefined ? {} : { pid }) } });

/** Anything a peer may say: bytes, true answers, answers with some bytes changed or cut off. */
function packetsLike(...answers: Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const answer = fc.constantFrom(...answers);
  const mutated = fc
    .tuple(answer, fc.array(fc.tuple(fc.nat(40), fc.nat(255)), { maxLength: 4 }), fc.nat(60))
    .map(([bytes, changes, length]) => {
      const changed = Uint8Array.from(bytes).subarray(0, Math.max(1, length));
      for (const [index, value] of changes) if (index < changed.length) changed[index] = value;
      return changed;
    });
  return fc.oneof(answer, mutated, fc.uint8Array({ minLength: 1, maxLength: 300 }));
}
const packet = packetsLike(
  version,
  notification('pre-dump', 5),
  encode({ success: false, crErrno: 3, crErrmsg: 'no' }),
);

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
        expect(['CRIU_PROTOCOL', 'CRIU_DIED', 'CRIU_REQUEST_FAILED', 'CRIU_TIMEOUT']).toContain(
          (error as CriuError).code,
        );
        await expect(conversation.version({})).rejects.toMatchObject({ code: 'CRIU_SESSION_ENDED' });
      }
      await conversation.close();
      peer.close();
    }),
    { numRuns: 300 },
  );
  expect(readdirSync('/proc/self/fd').length).toBe(before);
}, 60_000);

const works = (['DUMP', 'RESTORE'] as const).map((type) => ({
  type,
  packet: packetsLike(
    ...notificationScripts.map((script) => notification(script, 5)),
    notification('newer'),
    encode({ type: criu_req_type[type], restore: { pid: 5 } }),
    encode({ type: criu_req_type[type], success: false, crErrno: 3 }),
  ),
}));
const work = fc
  .constantFrom(...works)
  .chain(({ type, packet }) =>
    fc.record({ type: fc.constant(type), packets: fc.array(fc.tuple(packet, fc.nat(2)), { maxLength: 6 }) }),
  );

/** What a callback may do, in turn; every one closes the descriptor that is its own now. */
const refusal = new Error('no');
const callbacks: Record<string, OnNotify> = {
  returns: () => undefined,
  replies: () => ({ external: ['unix[5]'] }),
  throws: () => {
    throw refusal;
  },
  rejects: () => Promise.reject(refusal),
};
const answers = fc.option(
  fc.array(fc.constantFrom('returns', 'replies', 'throws', 'rejects'), { minLength: 1, maxLength: 6 }),
  { nil: undefined },
);

test('whatever a peer sends in the middle of a dump or a restore, and whatever the callback makes of it: a result, the error of the callback or a typed one', async () => {
  const before = readdirSync('/proc/self/fd').length;
  const file = openSync('/dev/null', 'r');
  await fc.assert(
    fc.asyncProperty(work, answers, fc.boolean(), async ({ type, packets }, answers, closes) => {
      const [ours, theirs] = native().socketpairSeqpacket();
      const wire = new Wire(new PacketSocket(ours, 1 << 20));
      const peer = new PacketSocket(theirs, 1 << 20);
      const conversation = new Conversation(wire, { criuPath: 'peer', graceMs: 0 });
      await peer.send(version);
      for (const [data, fds] of packets) await peer.send(data, Array<number>(fds).fill(file));
      if (closes) peer.close();
      let calls = 0;
      let refused = false;
      const onNotify: OnNotify = (told, signal) => {
        if (told.fd !== undefined) closeSync(told.fd);
        const name = answers?.[calls++ % answers.length] ?? 'returns';
        refused ||= name === 'throws' || name === 'rejects';
        return callbacks[name]?.(told, signal);
      };
      try {
        const call = { timeoutMs: 30, ...(answers === undefined ? {} : { onNotify }) };
        const response = await conversation.work({
          type,
          options: { imagesDir: tmpdir() },
          call,
          ...(type === 'DUMP' ? { pid: 5 } : {}),
        });
        expect(response).toMatchObject({ type, success: true });
        expect(refused).toBe(false);
      } catch (error) {
        const said = error === refusal ? criuErrorOf(error) : error;
        expect(said).toBeInstanceOf(CriuError);
        const { code } = said as CriuError;
        // CRIU_IMAGE: a success without images.
        const codes = [
          'CRIU_PROTOCOL',
          'CRIU_DIED',
          'CRIU_REQUEST_FAILED',
          'CRIU_TIMEOUT',
          'CRIU_WENT_ON',
          'CRIU_IMAGE',
        ];
        expect(codes).toContain(code);
        expect(error === refusal).toBe(refused && code !== 'CRIU_TIMEOUT');
      }
      await expect(conversation.version({})).rejects.toMatchObject({ code: 'CRIU_SESSION_ENDED' });
      await conversation.close();
      peer.close();
    }),
    { numRuns: 500 },
  );
  closeSync(file);
  expect(readdirSync('/proc/self/fd').length).toBe(before);
}, 60_000);
