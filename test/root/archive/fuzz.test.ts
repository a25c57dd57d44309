import { expect, it } from 'vitest';
import { fuzz } from '../../fuzz/fuzz.js';

/** `STILLFRAME_TEST_RUNS` for more. */
const RUNS = Number(process.env['STILLFRAME_TEST_RUNS'] ?? 60);

it(
  'whatever an archive says, it ends in typed errors, in bounded time and memory, and with nothing touched outside',
  { timeout: 60_000 + RUNS * 3000 },
  async () => {
    const { archives, ends } = await fuzz({ runs: RUNS });
    expect(archives).toBe(RUNS);
    // Some get as far as the restore itself: else this would prove little.
    expect(Object.keys(ends)).toContain('verify: done');
    expect(Object.keys(ends)).toContain('restore: CRIU_REQUEST_FAILED');
    expect(Object.keys(ends)).toContain('restoreContainer: RUNTIME_FAILED');
  },
);
