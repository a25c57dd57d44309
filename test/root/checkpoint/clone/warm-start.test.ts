import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { program, run } from '../../../fixtures/program.js';
import { scratchDir } from './copied.js';

/** It has a table in memory that takes a while to make, and answers with a part of it. */
const server = `
import socket, sys
table = bytearray(64 << 20)
for i in range(0, len(table), 4096):
    table[i] = i // 4096 % 251
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1] + '/socket')
s.listen()
while True:
    c, _ = s.accept()
    c.sendall(b'%d' % sum(table[::4096]))
    c.close()
`;

test(
  'the warm start of docs/copies.md: each copy answers from what was loaded once',
  { timeout: 300_000 },
  async () => {
    const page = readFileSync(new URL('../../../../docs/copies.md', import.meta.url), 'utf8');
    const section = page.split(/^## /m).find((text) => text.startsWith('A warm start\n'));
    const recipe = /^```sh\n(.*?)^```$/ms.exec(section ?? '')?.[1];
    const place = scratchDir();
    mkdirSync(join(place, 'data'));
    writeFileSync(join(place, 'server.py'), server);
    const script = recipe!
      .replaceAll('/srv/app', place)
      .replaceAll('stillframe ', `${process.execPath} ${program} `)
      .replaceAll(/^(.*restore .*)$/gm, `$1 --state-dir ${place}/state`);
    const { status, stdout, stderr } = await run('bash', ['-e', '-c', script]);
    expect(status, stderr).toBe(0);
    const pids = stdout.toString().trim().split('\n').slice(-2).map(Number);
    onTestFinished(() => {
      for (const pid of pids) process.kill(pid, 'SIGKILL');
    });
    const expected = Array.from({ length: 16384 }, (_, i) => i % 251).reduce((a, b) => a + b);
    for (const pid of pids) {
      const socket = connect(`/proc/${pid}/root${place}/data/socket`);
      let answer = '';
      socket.setEncoding('utf8').on('data', (text: string) => (answer += text));
      await once(socket, 'close');
      expect(answer).toBe(String(expected));
    }
  },
);
