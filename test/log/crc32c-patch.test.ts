import { expect, test } from 'vitest'
import { crc32c } from '../../log/crc32c.ts'
import { crc32cAdvance, crc32cRaw } from '../../log/crc32c-patch.ts'
import { Random } from '../support/random.ts'

test('the CRC of changed bytes follows from the old one, at any place and length', () => {
  const random = new Random(7)
  for (let round = 0; round < 400; round++) {
    const length = 1 + random.below(round < 200 ? 300 : 400_000)
    const before = Buffer.from(
      Array.from({ length: Math.min(length, 4000) }, () => random.below(256)),
    )
    const bytes = Buffer.alloc(length)
    before.copy(bytes)
    const changed = Buffer.from(bytes)
    const start = random.below(length)
    const end = Math.min(length, start + 1 + random.below(40))
    for (let i = start; i < end; i++) changed[i] = random.below(256)
    const difference = Buffer.alloc(end - start)
    for (let i = start; i < end; i++) difference[i - start] = bytes[i]! ^ changed[i]!
    const patched = crc32c(bytes) ^ crc32cAdvance(crc32cRaw(difference), length - end)
    expect(patched >>> 0).toBe(crc32c(changed))
  }
})

test('no change is no change', () => {
  expect(crc32cAdvance(crc32cRaw(Buffer.alloc(40)), 1_000_000)).toBe(0)
})
