/** The page of faults: its rows in order, and every test that it names there. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '..')
const page = readFileSync(join(root, 'docs/FAULTS.md'), 'utf8')

const rows = [...page.matchAll(/^\| (\d+) \| (.*) \|$/gm)].map(([, number, rest]) => {
  const cells = rest!.split(/(?<!\\) \| /)
  return { number: Number(number), heldBy: cells.at(-2)!, status: cells.at(-1)! }
})

/** File and test names of a cell: `file`: "name", "name"; `file`: "name". */
function testsOf(heldBy: string): [file: string, name: string][] {
  const tests: [string, string][] = []
  for (const [, file, names] of heldBy.matchAll(/`(test\/[^`]+)`: ((?:"[^"]*"(?:, )?)+)/g)) {
    for (const [, name] of names!.matchAll(/"([^"]*)"/g)) tests.push([file!, name!])
  }
  return tests
}

test('rows are in order, one a line, each with a status', () => {
  const numbers = rows.map(({ number }) => number)
  expect(numbers.length).toBeGreaterThan(20)
  expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b))
  for (const { number, status } of rows) {
    expect(`${number} ${status}`).toMatch(/^\d+ (held|held: .+|partly: .+|open: .+)$/)
  }
})

test('a row that is held names its tests, and these exist', () => {
  const missing: string[] = []
  for (const { number, heldBy, status } of rows) {
    const tests = testsOf(heldBy)
    if (status.startsWith('held') && tests.length === 0) missing.push(`${number} names no test`)
    for (const [file, name] of tests) {
      const path = join(root, file)
      const there = existsSync(path) && readFileSync(path, 'utf8').includes(name)
      if (!there) missing.push(`${number} ${file}: ${name}`)
    }
  }
  expect(missing).toEqual([])
})
