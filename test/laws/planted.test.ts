/** The campaigns plant bugs at places of the source: each has to be there still, once. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { root } from '../support/processes.ts'
import { plantedBugs } from './planted.ts'
import { plantedOrderBugs } from './planted-orders.ts'

const bugs = [...plantedBugs, ...plantedOrderBugs]

test.each(bugs)('$rule: its place is there, and its tests', ({ file, find, and, tests }) => {
  const source = readFileSync(join(root, file), 'utf8')
  for (const text of and === undefined ? [find] : [find, and.find]) {
    expect(source.split(text).length - 1, text).toBe(1)
  }
  for (const one of tests) expect(existsSync(join(root, one)), one).toBe(true)
})
