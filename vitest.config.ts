import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    // Most of a test's time is waiting: for processes, for Redis, for a browser. Two share what has two cores.
    maxWorkers: 2,
    projects: [
      {
        test: {
          name: 'unit',
          // A thread starts faster than a process, which takes a third off the time of all of these; what needs a process of its own starts one.
          pool: 'threads',
          // A bound against hanging, not a measure: a busy machine may take its time.
          testTimeout: 30_000,
          expect: { poll: { timeout: 10_000 } },
          include: ['{packages,apps}/*/test/**/*.test.ts', 'tooling/test/**/*.test.ts'],
          exclude: ['**/*.integration.test.ts', '**/node_modules/**'],
        },
      },
      {
        test: {
          name: 'integration',
          include: [
            '{packages,apps}/*/test/**/*.integration.test.ts',
            'tooling/test/**/*.integration.test.ts',
          ],
          testTimeout: 60_000,
          expect: { poll: { timeout: 10_000 } },
          hookTimeout: 60_000,
        },
      },
    ],
    coverage: { provider: 'v8', include: ['packages/*/src/**'] },
  },
});
