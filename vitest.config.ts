import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts', 'examples/**/*.test.ts'],
    globalSetup: ['test/support/kafka/global-setup.ts'],
    // Processes, not threads: native bindings and signals belong to a process.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 180_000,
    hookTimeout: 180_000,
    teardownTimeout: 10_000,
    // What is waited for comes sooner or later; a busy machine is no failure.
    expect: { poll: { timeout: 60_000 } },
    // A forgotten `.only` would hide all other tests of its file.
    allowOnly: !process.env.CI,
  },
})
