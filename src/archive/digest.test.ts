import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { compiled } from '../../test/fixtures/compiled.js';

const source = fileURLToPath(new URL('../../test/fixtures/digest.c', import.meta.url));
// Every place at which the padding can begin, and what is hashed in one go and in many.
const lengths = [...Array.from({ length: 200 }, (_, length) => length), 4095, 4096, 65_537, 1_000_003];

describe.each(process.arch === 'x64' ? ['portable', 'sha-ni'] : ['portable', 'armv8'])(
  'the %s SHA-256 of the native part',
  (implementation) => {
    it("says what Node.js's own says", (context) => {
      const program = compiled(source, ['-std=gnu11', '-O2', '-Wall', '-Wextra']);
      const data = lengths.map((length) => randomBytes(length));
      const { status, stdout } = spawnSync(program, [implementation, ...lengths.map(String)], {
        input: Buffer.concat(data),
        encoding: 'utf8',
      });
      if (status === 77) context.skip(`needs a CPU that has ${implementation}`);
      expect(status).toBe(0);
      expect(stdout.trim().split('\n')).toEqual(data.map((bytes) => createHash('sha256').update(bytes).digest('hex')));
    });
  },
);
