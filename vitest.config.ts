import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts', 'examples/**/*.test.ts'],
    globalSetup: ['test/support/kafka/global-setup.ts'],
    // Processes, not threads: native bindings and signals belong to a process.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 10_000,
    // A forgotten `.only` would hide all other tests of its file.
    allowOnly: !process.env.CI,
  },
})
