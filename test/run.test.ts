/** The runner's own parts: what it counts, and that it ends what it started. */
import { expect, test } from 'vitest'
import { endStrays, runProcess, strays } from './support/processes.ts'
import { countReport, totalLine } from './support/totals.ts'

const file = (status: string, ...tests: string[]) => ({
  name: 'a.test.ts',
  status,
  assertionResults: tests.map(one => ({ status: one, fullName: 'a fact' })),
})
const line = (files: unknown[], exitCode: number, skipIsFailure = false) =>
  totalLine(countReport(JSON.stringify({ testResults: files }), exitCode, skipIsFailure).counts)

test('tests are counted by what they were', () => {
  expect(line([file('passed', 'passed', 'passed')], 0)).toBe('2 passed, 0 failed')
  expect(line([file('failed', 'passed', 'failed')], 1)).toBe('1 passed, 1 failed')
  expect(line([file('passed', 'passed', 'pending', 'todo')], 0)).toBe(
    '1 passed, 0 failed, 2 skipped',
  )
})

test('a skipped test is a failure in CI', () => {
  expect(line([file('passed', 'passed', 'skipped')], 0, true)).toBe('1 passed, 1 failed')
})

test('a failure without a failed test is counted, and so is a run without tests', () => {
  expect(line([file('failed')], 1)).toBe('0 passed, 1 failed')
  expect(line([file('failed', 'passed')], 1)).toBe('1 passed, 1 failed')
  expect(line([file('passed', 'passed')], 1)).toBe('1 passed, 1 failed')
  expect(line([], 0)).toBe('0 passed, 1 failed')
  expect(totalLine(countReport('', 1, false).counts)).toBe('0 passed, 1 failed')
})

test('a command gives its code and output, a hanging one is stopped', async () => {
  const failing = await runProcess('sh', ['-c', 'echo out; echo err >&2; exit 3'], {
    timeoutMs: 10_000,
  })
  expect([failing.code, failing.output]).toEqual([3, expect.stringContaining('out')])
  expect(failing.output).toContain('err')
  expect((await runProcess('sleep', ['60'], { timeoutMs: 200 })).code).toBe(124)
  expect((await runProcess('no-such-command', [], { timeoutMs: 1000 })).code).toBe(127)
})

test.runIf(process.platform === 'linux')('a process left behind is found and ended', async () => {
  // A session of its own: the end of the command's group does not reach it.
  const script = `require('child_process')
    .spawn('sleep', ['60'], { detached: true, stdio: 'ignore' }).unref()`
  await runProcess(process.execPath, ['-e', script], { timeoutMs: 10_000 })
  expect(strays().map(one => one.command)).toEqual(['sleep 60'])
  expect(endStrays()).toHaveLength(1)
  await expect.poll(() => strays()).toEqual([])
})
