import fc from 'fast-check'
import { expect, test } from 'vitest'
import { KeyFilter } from '../../state/key-filter.ts'

const key = (i: number) => `\u0000\u0000\u0001\u0090${i.toString(36)}\u0000\u0000`

test('a key that was added is never said to be missing', () => {
  const keys = fc.array(fc.string({ unit: 'binary-ascii', maxLength: 40 }), { maxLength: 3000 })
  fc.assert(
    fc.property(keys, added => {
      const filter = new KeyFilter()
      for (const one of added) filter.add(one)
      for (const one of added) expect(filter.mayHave(one)).toBe(true)
    }),
    { numRuns: 30 },
  )
})

test('few of the others pass, in a few bytes a key, however many there are', () => {
  const filter = new KeyFilter()
  expect(filter.mayHave(key(0))).toBe(false)
  let added = 0
  for (const count of [1_000, 10_000, 200_000]) {
    for (; added < count; added++) filter.add(key(added))
    for (let i = 0; i < count; i += 7) expect(filter.mayHave(key(i))).toBe(true)
    let passed = 0
    for (let i = 0; i < 20_000; i++) if (filter.mayHave(key(1e9 + i))) passed++
    expect(passed).toBeLessThan(400)
    expect(filter.bytes / count).toBeLessThan(10)
  }
})

test('keys that differ in one unit, or in the order of units, are different', () => {
  const filter = new KeyFilter()
  filter.add('customer-1-2')
  const others = ['customer-2-1', 'customer-1-3', 'customer-1-', '', 'customer-1-2\u0000']
  expect(others.filter(one => filter.mayHave(one))).toEqual([])
})
