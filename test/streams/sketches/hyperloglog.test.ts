import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MillraceError } from '../../../streams/errors.ts'
import { HyperLogLog } from '../../../streams/sketches/hyperloglog.ts'

/** A sketch of the texts `prefix0` … `prefix(count - 1)`. */
function sketchOf(prefix: string, count: number, from = 0): HyperLogLog {
  const sketch = new HyperLogLog()
  for (let i = from; i < from + count; i += 1) sketch.addBytes(Buffer.from(prefix + i))
  return sketch
}

function hex(sketch: HyperLogLog): string {
  return sketch.toBytes().toString('hex')
}

function merged(...sketches: readonly HyperLogLog[]): HyperLogLog {
  const sum = new HyperLogLog()
  for (const sketch of sketches) sum.merge(sketch)
  return sum
}

describe('HyperLogLog', () => {
  test('golden bytes: nothing, two hashes, registers as a list', () => {
    expect(hex(new HyperLogLog())).toBe('01000000')
    const two = new HyperLogLog()
    expect([two.add(0xffffffff, 1), two.add(2, 0xfffffffe), two.add(2, 0xfffffffe)]).toEqual([
      true,
      true,
      false,
    ])
    expect(hex(two)).toBe('01000002' + '00000002fffffffe' + 'ffffffff00000001')
    // 257 hashes of 8 registers: index = hash / 2^50, rank by the next bits.
    const many = new HyperLogLog()
    for (let i = 0; i < 257; i += 1) many.add(((i % 8) << 18) | 1, i)
    expect(hex(many)).toBe(
      '01010008' +
        '000012' +
        '000412' +
        '000812' +
        '000c12' +
        '001012' +
        '001412' +
        '001812' +
        '001c12',
    )
  })

  test('golden bytes of packed registers', () => {
    const bytes = sketchOf('k', 20_000).toBytes()
    expect(bytes.length).toBe(2 + 12_288)
    expect(bytes.subarray(0, 20).toString('hex')).toBe('01021010400000c40c00c1181082042001081141')
  })

  test('counts exactly up to 256', () => {
    const sketch = new HyperLogLog()
    for (let i = 1; i <= 256; i += 1) {
      sketch.addBytes(Buffer.from(`c-${i}`))
      sketch.addBytes(Buffer.from(`c-${Math.ceil(i / 2)}`))
      expect(sketch.count()).toBe(i)
    }
  })

  test('the standard error stays near 0.8 % without bias, at every size', () => {
    for (const size of [257, 1000, 5000, 20_000, 40_000, 80_000]) {
      const errors: number[] = []
      for (let run = 0; run < 12; run += 1) {
        errors.push(sketchOf(`r${run}-`, size).count() / size - 1)
      }
      const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length
      const deviation = Math.hypot(...errors) / Math.sqrt(errors.length)
      // 12 runs: the mean's own deviation is 0.8 % / √12; both bounds leave room of 3 σ.
      expect(Math.abs(mean), `bias at ${size}`).toBeLessThan(0.008)
      expect(deviation, `error at ${size}`).toBeLessThan(0.0145)
      expect(Math.max(...errors.map(Math.abs)), `worst at ${size}`).toBeLessThan(0.032)
    }
  })

  test('a rank at the end of the hash is the highest, and stays readable', () => {
    const sketch = sketchOf('k', 300)
    sketch.add(0, 0)
    sketch.add(0x0004_0000, 1)
    expect(hex(HyperLogLog.fromBytes(sketch.toBytes()))).toBe(hex(sketch))
    expect(sketch.toBytes().readUIntBE(4, 3)).toBe(51)
    expect(sketch.toBytes().readUIntBE(7, 3)).toBe(1024 + 50)
  })

  test('the bytes depend on the set only: not on order, repeats, merges or round trips', () => {
    const arbitrary = fc.array(
      fc.record({ from: fc.nat(400), count: fc.constantFrom(0, 1, 30, 200, 300, 900) }),
      { minLength: 1, maxLength: 4 },
    )
    fc.assert(
      fc.property(arbitrary, ranges => {
        const parts = ranges.map(({ from, count }) => sketchOf('m', count, from))
        const all = new HyperLogLog()
        for (const { from, count } of [...ranges].reverse()) {
          for (let i = from + count - 1; i >= from; i -= 1) all.addBytes(Buffer.from(`m${i}`))
        }
        const expected = hex(all)
        expect(hex(merged(...parts))).toBe(expected)
        expect(hex(merged(...parts.toReversed()))).toBe(expected)
        const [first, ...rest] = parts
        expect(hex(merged(merged(first), merged(...rest), first))).toBe(expected)
        expect(hex(HyperLogLog.fromBytes(Buffer.from(expected, 'hex')))).toBe(expected)
        expect(HyperLogLog.fromBytes(Buffer.from(expected, 'hex')).count()).toBe(all.count())
      }),
      { numRuns: 60, seed: 7 },
    )
  })

  test('a clone grows alone', () => {
    for (const size of [10, 256, 300]) {
      const sketch = sketchOf('k', size)
      const before = hex(sketch)
      sketch.clone().merge(sketchOf('other', 500))
      expect(hex(sketch)).toBe(before)
    }
  })

  test('bytes that no sketch wrote are refused', () => {
    const exact = sketchOf('k', 3).toBytes()
    const sparse = sketchOf('k', 300).toBytes()
    const dense = sketchOf('k', 20_000).toBytes()
    const swapped = Buffer.concat([exact.subarray(0, 4), exact.subarray(12), exact.subarray(4, 12)])
    const wrong: Buffer[] = [
      Buffer.alloc(0),
      Buffer.from('02000000', 'hex'),
      Buffer.from('01030000', 'hex'),
    ]
    for (const bytes of [exact, sparse, dense]) {
      wrong.push(bytes.subarray(0, -1), Buffer.concat([bytes, Buffer.alloc(1)]))
    }
    const highRank = Buffer.from(dense)
    highRank.fill(0xff, 2, 5)
    for (const bytes of [...wrong, swapped, highRank]) {
      expect(() => HyperLogLog.fromBytes(bytes)).toThrow(MillraceError)
    }
  })
})
