import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts', 'bench/**/*.test.ts'],
    // Real processes, kernels and disks: slow machines are slow, and a hang must still end.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    pool: 'forks',
    // Two cores: more files at once would only make the freezes wait for each other.
    maxWorkers: 2,
    globalSetup: ['test/fixtures/global-setup.ts'],
  },
});
