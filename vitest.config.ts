import { configDefaults, defineConfig } from 'vitest/config'

const all = ['test/**/*.test.ts', 'examples/**/*.test.ts']
const long = ['test/**/*.long.test.ts']
/** Which tests: the short ones of `npm test`, the long ones, or by default, for filters, all. */
const which = process.env.MILLRACE_TESTS

export default defineConfig({
  test: {
    include: which === 'long' ? long : all,
    exclude: [...configDefaults.exclude, ...(which === 'short' ? long : [])],
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
