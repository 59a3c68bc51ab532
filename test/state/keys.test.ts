/** Laws: an encoding decodes to what it was made of, and sorts as that does. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  afterPrefix,
  decodeText,
  decodeTextFields,
  decodeTime,
  encodeText,
  encodeTextFields,
  encodeTime,
  metadataKey,
  rowKeyOfWindow,
  rowsPrefix,
  windowKey,
  windowStartOf,
} from '../../state/keys.ts'

const hex = (row: string): string => Buffer.from(row, 'latin1').toString('hex')
const parameters = { seed: 20_261_121, numRuns: 500 }
/** Whole code points only: lone surrogates have no UTF-8. */
const text = fc.string({ unit: 'binary', maxLength: 8 })
const awkward = fc.string({ unit: fc.constantFrom('\0', '\x01', 'a', 'ä', '\u{10000}', '￿') })
const anyText = fc.oneof(text, awkward)
const time = fc.oneof(fc.maxSafeInteger(), fc.integer({ min: -3, max: 3 }))

const compareBytes = (a: string, b: string): number =>
  Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b)))
const compareKeys = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

describe('golden bytes', () => {
  it.each([
    ['text', encodeText('né'), '6ec3a9'],
    ['fields', encodeTextFields(['eu', '', 'a\0b']), '65750001' + '0001' + '6100ff620001'],
    ['time 0', encodeTime(0), '8000000000000000'],
    ['time -1', encodeTime(-1), '7fffffffffffffff'],
    ['time 2026-11-21', encodeTime(1_795_219_200_000), '800001a1fb671800'],
    ['the last time', encodeTime(Number.MAX_SAFE_INTEGER), '801fffffffffffff'],
    ['window row', windowKey(60_000, 'k'), '800000000000ea60' + '6b'],
    ['rows of a store', rowsPrefix('orders', 258), '53' + '6f7264657273' + '00' + '0102'],
    [
      'metadata',
      metadataKey('a', 1, 'applied').latin1Slice(),
      '4d6100' + '0001' + '6170706c696564',
    ],
  ])('%s', (_, row, golden) => expect(hex(row)).toBe(golden))
})

describe('laws', () => {
  it('texts come back and sort as their UTF-8 does', () => {
    fc.assert(
      fc.property(anyText, anyText, (a, b) => {
        expect(decodeText(encodeText(a))).toBe(a)
        expect(compareKeys(encodeText(a), encodeText(b))).toBe(compareBytes(a, b))
      }),
      parameters,
    )
  })

  it('long texts come back', () => {
    for (const long of ['x'.repeat(10_000), 'é'.repeat(10_000), '\u{1f600}'.repeat(3000)]) {
      expect(decodeText(encodeText(long))).toBe(long)
    }
  })

  it('fields come back and sort one after the other', () => {
    const fields = fc.array(anyText, { minLength: 3, maxLength: 3 })
    fc.assert(
      fc.property(fields, fields, (a, b) => {
        expect(decodeTextFields(encodeTextFields(a), 3)).toEqual(a)
        const order = a.map((field, i) => compareBytes(field, b[i]!)).find(sign => sign !== 0) ?? 0
        expect(compareKeys(encodeTextFields(a), encodeTextFields(b))).toBe(order)
      }),
      parameters,
    )
  })

  it('bytes that are no fields are refused', () => {
    for (const bad of ['a', 'a\0', 'a\0\x02', 'a\0\x01b', '\0\x01\0\x01']) {
      expect(() => decodeTextFields(bad, 1)).toThrow(RangeError)
    }
  })

  it('times come back and sort as numbers; window rows by window, then key', () => {
    fc.assert(
      fc.property(time, time, anyText, anyText, (a, b, k, l) => {
        expect(decodeTime(encodeTime(a))).toBe(a)
        const row = windowKey(a, encodeText(k))
        expect([windowStartOf(row), rowKeyOfWindow(row)]).toEqual([a, encodeText(k)])
        const other = windowKey(b, encodeText(l))
        expect(compareKeys(row, other)).toBe(Math.sign(a - b) || compareBytes(k, l))
      }),
      parameters,
    )
  })

  it('times that only bound a range keep its order', () => {
    expect(encodeTime(Number.POSITIVE_INFINITY)).toBe(encodeTime(Number.MAX_SAFE_INTEGER))
    expect(encodeTime(Number.NEGATIVE_INFINITY)).toBe(encodeTime(Number.MIN_SAFE_INTEGER))
    expect(encodeTime(1.5)).toBe(encodeTime(2))
    expect(encodeTime(-1.5)).toBe(encodeTime(-1))
    expect(() => encodeTime(Number.NaN)).toThrow('a number')
  })

  it('the key after a prefix is after all that begin with it, and nothing less', () => {
    const bytes = fc.string({ unit: fc.constantFrom('\0', 'a', '\xfe', '\xff'), maxLength: 4 })
    fc.assert(
      fc.property(bytes, bytes, bytes, (prefix, suffix, other) => {
        const after = afterPrefix(prefix)
        if (after === undefined) expect(prefix.replaceAll('\xff', '')).toBe('')
        else {
          expect(prefix + suffix < after).toBe(true)
          if (other > prefix && !other.startsWith(prefix)) expect(other >= after).toBe(true)
        }
      }),
      parameters,
    )
  })

  it('stores and partitions do not share keys', () => {
    const name = fc.constantFrom('a', 'a-b', 'ab', 'a0')
    const partition = fc.constantFrom(0, 1, 255, 256, 65_535)
    const any = fc.tuple(
      name,
      partition,
      fc.string({ unit: fc.constantFrom('\0', 'a', 'b', '\xff') }),
    )
    fc.assert(
      fc.property(any, any, ([n, p, k], [m, q, l]) => {
        const same = n === m && p === q && k === l
        expect(rowsPrefix(n, p) + k === rowsPrefix(m, q) + l).toBe(same)
        if (n !== m || p !== q)
          expect((rowsPrefix(n, p) + k).startsWith(rowsPrefix(m, q))).toBe(false)
      }),
      parameters,
    )
  })
})
