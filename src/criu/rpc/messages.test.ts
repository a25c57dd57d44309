import fc from 'fast-check';
import { expect, test } from 'vitest';
import { criu_req, criu_req_type, criu_resp } from '../generated/criu.js';
import { decodeMessage, encodeNotifyReply, encodeRequest } from './messages.js';

const answer = (fields: criu_resp.$Properties): ReturnType<typeof decodeMessage> =>
  decodeMessage(criu_resp.encode(fields).finish());

test('a notification has its name and, where CRIU sends one, the pid', () => {
  expect(answer({ type: criu_req_type.NOTIFY, success: true, notify: { script: 'post-restore', pid: 5 } })).toEqual({
    type: 'NOTIFY',
    script: 'post-restore',
    pid: 5,
  });
  expect(answer({ type: criu_req_type.NOTIFY, success: true, notify: { script: 'of-tomorrow' } })).toEqual({
    type: 'NOTIFY',
    script: 'of-tomorrow',
  });
  expect(() => answer({ type: criu_req_type.NOTIFY, success: true })).toThrow('without a name');
});

test('fields that CRIU left out are absent, those that are zero are there', () => {
  expect(answer({ type: criu_req_type.DUMP, success: false, crErrno: 3, crErrmsg: 'no' })).toEqual({
    type: 'DUMP',
    success: false,
    crErrno: 3,
    crErrmsg: 'no',
  });
  expect(answer({ type: criu_req_type.WAIT_PID, success: true, status: 0 })).toEqual({
    type: 'WAIT_PID',
    success: true,
    status: 0,
  });
});

test('a no is written out: CRIU takes only a true for a yes', () => {
  expect(criu_req.decode(encodeNotifyReply(false))).toMatchObject({ type: criu_req_type.NOTIFY, notifySuccess: false });
  expect(criu_req.decode(encodeNotifyReply(true, ['net[1]:a']))).toMatchObject({
    notifySuccess: true,
    opts: { imagesDirFd: -1, external: ['net[1]:a'] },
  });
  expect(criu_req.decode(encodeRequest({ type: 'VERSION', keepOpen: true }))).toMatchObject({
    type: criu_req_type.VERSION,
    keepOpen: true,
  });
});

test.each(['unix[5]', 5, [5], ['a\0b'], null])('%j is no answer of external resources', (external) => {
  expect(() => encodeNotifyReply(true, external as never)).toThrow(
    expect.objectContaining({ code: 'BAD_OPTION', facts: expect.objectContaining({ option: 'external' }) }),
  );
});

test('CRIU is not sent to a page server whose address it does not know', () => {
  const encode = (type: 'DUMP' | 'PRE_DUMP' | 'SINGLE_PRE_DUMP' | 'PAGE_SERVER', opts: object) => () =>
    encodeRequest({ type, opts: { imagesDirFd: 5, ps: { port: 5 }, ...opts } });
  const refused = expect.objectContaining({
    code: 'BAD_OPTION',
    facts: expect.objectContaining({ option: 'pageServer' }),
  });
  for (const type of ['DUMP', 'PRE_DUMP', 'SINGLE_PRE_DUMP'] as const) {
    expect(encode(type, {})).toThrow(refused);
    expect(encode(type, { ps: { port: 5, address: '::1' } })).not.toThrow();
    expect(encode(type, { ps: { fd: 0 } })).not.toThrow();
  }
  // There it listens.
  expect(encode('PAGE_SERVER', {})).not.toThrow();
  expect(encode('DUMP', { lazyPages: true })).not.toThrow();
});

test('any bytes are a message or an Error, never anything else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        expect(typeof decodeMessage(bytes).type).toBe('string');
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }),
    { numRuns: 2000 },
  );
});

test('so are the bytes of a real message with some of them changed', () => {
  const real = criu_resp
    .encode({
      type: criu_req_type.RESTORE,
      success: true,
      restore: { pid: 77 },
      crErrmsg: 'x'.repeat(30),
      notify: { script: 'pre-dump' },
    })
    .finish();
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(real.length - 1), fc.nat(255)), { maxLength: 5 }),
      fc.nat(real.length),
      (changes, length) => {
        const bytes = Uint8Array.from(real).subarray(0, length);
        for (const [index, value] of changes) if (index < length) bytes[index] = value;
        try {
          expect(typeof decodeMessage(bytes).type).toBe('string');
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      },
    ),
    { numRuns: 2000 },
  );
});
