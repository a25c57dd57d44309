import { defineConfig } from 'vitest/config';

// The long suites: npm run test:faults, npm run test:soak. They take the machine for themselves.
export default defineConfig({
  test: {
    include: ['test/faults/*.sweep.ts'],
    testTimeout: 3_600_000,
    hookTimeout: 60_000,
    pool: 'forks',
    execArgv: ['--expose-gc'],
    maxWorkers: 1,
    fileParallelism: false,
    globalSetup: ['test/fixtures/global-setup.ts'],
  },
});
