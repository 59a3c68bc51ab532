/**
 * `npm test`: types, formatting and lint, the tests, and the package as npm would publish it.
 * `npm test -- FILTER…` passes its arguments to vitest and runs nothing else. `npm run test:long`
 * runs the tests that it leaves out, `*.long.test.ts`, half a minute or more each: outages, kills,
 * whole recordings, the brokers of the tests themselves.
 *
 * The last line is `N passed, N failed`, with `, N skipped` where tests were skipped: tests and
 * steps together. With `CI=true` a skipped test is a failure.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ensureDebianPackages } from './support/debian.ts'
import { fetchAll, whatIsMissing } from './support/kafka/jars.ts'
import { packageSteps } from './support/package-steps.ts'
import { endGroups, endStrays, runProcess } from './support/processes.ts'
import { type Counts, countReport, isContinuousIntegration, totalLine } from './support/totals.ts'

const scratch = mkdtempSync(join(tmpdir(), 'millrace-test-'))
const total: Counts = { passed: 0, failed: 0, skipped: 0 }

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

function add(counts: Counts): void {
  total.passed += counts.passed
  total.failed += counts.failed
  total.skipped += counts.skipped
}

/** Runs one check and counts it; its output is shown only when it fails. */
async function step(name: string, command: string, args: readonly string[]): Promise<boolean> {
  const { code, output, elapsedMs } = await runProcess(command, args, { timeoutMs: 600_000 })
  const passed = code === 0
  if (!passed) print(output.trimEnd())
  print(`${passed ? 'ok  ' : 'FAIL'} ${name} (${(elapsedMs / 1000).toFixed(1)} s)`)
  add({ passed: passed ? 1 : 0, failed: passed ? 0 : 1, skipped: 0 })
  return passed
}

async function runTests(
  filters: readonly string[],
  which: 'short' | 'long' | 'all' = 'all',
): Promise<void> {
  const report = join(scratch, 'vitest.json')
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
  const result = await runProcess('vitest', ['run', ...reporters, ...filters], {
    timeoutMs: 2_700_000,
    env: { MILLRACE_TESTS: which },
    show: true,
  })
  let text = ''
  try {
    text = readFileSync(report, 'utf8')
  } catch {
    print('vitest wrote no report')
  }
  const { counts, notes } = countReport(text, result.code, isContinuousIntegration())
  for (const note of notes) print(note)
  print(
    `${counts.failed === 0 ? 'ok  ' : 'FAIL'} tests (${(result.elapsedMs / 1000).toFixed(1)} s)`,
  )
  add(counts)
}

async function main(args: readonly string[]): Promise<void> {
  const isLong = args[0] === '--long'
  if (args.length > 0 && !isLong) return runTests(args)
  await ensureDebianPackages(print)
  if (whatIsMissing() === undefined) await fetchAll(print)
  if (isLong) return runTests([], 'long')
  await step('types', 'tsc', ['--noEmit'])
  await step('format and lint', 'biome', ['check', '--error-on-warnings', '.'])
  await runTests([], 'short')
  for (const { name, command, args } of packageSteps(scratch)) {
    if (!(await step(name, command, args))) break
  }
}

function leave(): void {
  endGroups()
  const left = endStrays()
  if (left.length > 0) print(`processes left behind by the tests, ended: ${left.join('; ')}`)
  rmSync(scratch, { recursive: true, force: true })
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    leave()
    process.exit(signal === 'SIGINT' ? 130 : 143)
  })
}

try {
  await main(process.argv.slice(2))
} catch (error) {
  print(String(error instanceof Error ? error.stack : error))
  add({ passed: 0, failed: 1, skipped: 0 })
}
leave()
print(totalLine(total))
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1
