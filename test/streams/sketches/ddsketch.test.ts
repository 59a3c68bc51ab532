import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MillraceError } from '../../../streams/errors.ts'
import { DDSketch } from '../../../streams/sketches/ddsketch.ts'
import { Random } from '../../support/random.ts'

function sketchOf(values: readonly number[]): DDSketch {
  const sketch = new DDSketch()
  for (const value of values) sketch.add(value)
  return sketch
}

function hex(sketch: DDSketch): string {
  return sketch.toBytes().toString('hex')
}

const shares = [0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1]

/** The quantiles that lie further than 1 % from the exact ones. */
function misses(values: readonly number[], sketch = sketchOf(values)): string[] {
  const sorted = [...values].sort((a, b) => a - b)
  return shares.flatMap(share => {
    const exact = sorted[Math.floor(share * (sorted.length - 1))]
    const found = sketch.quantile(share)!
    return Math.abs(found - exact) <= 0.01 * Math.abs(exact) * (1 + 1e-9)
      ? []
      : [`q${share}: ${found} for ${exact}`]
  })
}

describe('DDSketch', () => {
  test('golden bytes: nothing, and both signs with a zero', () => {
    expect(hex(new DDSketch())).toBe('01000000')
    // ln 10 / ln γ = 115.1, so bucket 116 (zigzag e8 01); 1 is bucket 0.
    expect(hex(sketchOf([1, 10, 10, 0, -1]))).toBe(
      '0101' + '0200' + '0001' + '7402' + '0100' + '0001' + 'bff0000000000000' + '4024000000000000',
    )
  })

  test('quantiles are within 1 %, for many shapes of data', () => {
    const generator = new Random(11)
    const random = () => generator.next()
    const shapes: Record<string, () => number> = {
      uniform: () => random() * 1000,
      exponential: () => -Math.log(1 - random()) * 30_000,
      pareto: () => (1 - random()) ** -2,
      integers: () => Math.floor(random() * 50),
      signed: () => (random() - 0.5) * 2e6,
      tiny: () => random() * 1e-9,
      huge: () => random() * 2 ** 53,
      bimodal: () => (random() < 0.5 ? 5 + random() : 8e6 + random()),
    }
    for (const [name, next] of Object.entries(shapes)) {
      for (const size of [1, 2, 10, 1000, 20_000]) {
        expect(misses(Array.from({ length: size }, next)), `${name} ${size}`).toEqual([])
      }
    }
  })

  test('every duration from 1 ms to 2^53 - 1 ms at once keeps the error bound', () => {
    const values = Array.from({ length: 5300 }, (_, i) => Math.floor(2 ** (i / 100)))
    expect(misses(values)).toEqual([])
  })

  test('beyond 2048 buckets only the smallest magnitudes lose precision', () => {
    const values = Array.from({ length: 6000 }, (_, i) => 10 ** (i / 100 - 30))
    const sketch = sketchOf(values)
    expect(sketch.count).toBe(6000)
    expect(sketch.quantile(0)! / values[0]).toBeGreaterThan(10)
    const upper = shares.filter(share => share >= 0.75)
    for (const share of upper) {
      const exact = values[Math.floor(share * 5999)]
      expect(Math.abs(sketch.quantile(share)! / exact - 1)).toBeLessThanOrEqual(0.01 + 1e-9)
    }
    expect(hex(sketchOf(values.toReversed()))).toBe(hex(sketch))
    expect(sketch.toBytes().length).toBeLessThan(3 * 2048)
  })

  test('the bytes depend on the values only: not on order, merges or round trips', () => {
    const value = fc.oneof(
      fc.integer({ min: -1000, max: 100_000 }),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.constantFrom(0, -0, 5e-324, 1.7e308, -1e-200, 1e200),
    )
    fc.assert(
      fc.property(fc.array(value, { maxLength: 60 }), fc.nat(60), fc.nat(60), (values, i, j) => {
        const [from, to] = [Math.min(i, j), Math.max(i, j)]
        const expected = hex(sketchOf(values))
        expect(hex(sketchOf(values.toReversed()))).toBe(expected)
        const parts = () => [
          sketchOf(values.slice(0, from)),
          sketchOf(values.slice(from, to)),
          sketchOf(values.slice(to)),
        ]
        const [a, b, c] = parts()
        a.merge(b)
        a.merge(c)
        expect(hex(a)).toBe(expected)
        const [d, e, f] = parts()
        f.merge(e)
        f.merge(d)
        expect(hex(f)).toBe(expected)
        expect(hex(DDSketch.fromBytes(Buffer.from(expected, 'hex')))).toBe(expected)
      }),
      { numRuns: 500, seed: 8 },
    )
  })

  test('a clone grows alone, and an empty sketch has no quantile', () => {
    const sketch = sketchOf([1, 2, 3])
    const before = hex(sketch)
    sketch.clone().merge(sketchOf([1e9, -5]))
    expect(hex(sketch)).toBe(before)
    expect(new DDSketch().quantile(0.5)).toBe(undefined)
    expect(() => sketch.add(Number.NaN)).toThrow('finite')
  })

  test('bytes that no sketch wrote are refused, whatever they are', () => {
    const bytes = sketchOf([1, 10, 10, 0, -1]).toBytes()
    for (let end = 0; end < bytes.length; end += 1) {
      expect(() => DDSketch.fromBytes(bytes.subarray(0, end))).toThrow(MillraceError)
    }
    expect(() => DDSketch.fromBytes(Buffer.concat([bytes, bytes]))).toThrow(MillraceError)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), body => {
        try {
          DDSketch.fromBytes(Buffer.from([1, ...body]))
        } catch (error) {
          expect(error).toBeInstanceOf(MillraceError)
        }
      }),
      { numRuns: 2000, seed: 9 },
    )
  })
})
