/** Counting what a run did, from vitest's JSON report, and the closing line. */

export interface Counts {
  passed: number
  failed: number
  skipped: number
}

export function isContinuousIntegration(): boolean {
  return process.env.CI === 'true' || process.env.CI === '1'
}

export function totalLine(counts: Counts): string {
  const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : ''
  return `${counts.passed} passed, ${counts.failed} failed${skipped}`
}

interface FileReport {
  readonly name: string
  readonly status: string
  readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[]
}

/**
 * Counts vitest's report. A file that fails without a failed test (it cannot be loaded, a hook
 * throws) counts as one failure, and so does a run that fails with every test green.
 */
export function countReport(text: string, exitCode: number, skipIsFailure: boolean) {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 }
  const notes: string[] = []
  const files: readonly FileReport[] = text === '' ? [] : JSON.parse(text).testResults
  for (const file of files) {
    let failedHere = 0
    for (const test of file.assertionResults) {
      if (test.status === 'passed') counts.passed++
      else if (test.status === 'failed') failedHere++
      else if (skipIsFailure) {
        failedHere++
        notes.push(`skipped, which fails in CI: ${test.fullName} (${file.name})`)
      } else counts.skipped++
    }
    if (file.status === 'failed' && failedHere === 0) {
      failedHere = 1
      notes.push(`failed outside its tests: ${file.name}`)
    }
    counts.failed += failedHere
  }
  if (exitCode !== 0 && counts.failed === 0) {
    counts.failed = 1
    notes.push(`vitest ended with code ${exitCode} though no test failed`)
  }
  if (counts.passed + counts.failed + counts.skipped === 0) {
    counts.failed = 1
    notes.push('no test ran')
  }
  return { counts, notes }
}
