import { expect, it } from 'vitest';
import { fuzz } from '../fuzz/fuzz.js';

/** `npm run test:fuzz`: with the addon under AddressSanitizer and UndefinedBehaviorSanitizer. */
const MINUTES = Number(process.env['STILLFRAME_TEST_MINUTES'] ?? 60);

it(
  `nothing that an archive says breaks a rule in ${MINUTES} minutes`,
  { timeout: (MINUTES + 5) * 60_000 },
  async () => {
    const report = await fuzz({ runs: Number.MAX_SAFE_INTEGER, limitMs: MINUTES * 60_000 });
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    expect(report.archives).toBeGreaterThan(0);
  },
);
