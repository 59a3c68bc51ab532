import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CODECS } from '../../log/compression.ts'
import { MillraceError } from '../../log/errors.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { readHeaders } from '../../log/record-headers.ts'
import { golden, makeBatch, rendered, type TestRecord } from './batches.ts'

const name = fc.string({ maxLength: 5, unit: 'grapheme' })
const bytes = fc.oneof(
  fc.constant(null),
  fc.uint8Array({ maxLength: 300 }).map(array => Buffer.from(array)),
)
const timestamp = fc.oneof(
  fc.integer({ min: 1_700_000_000_000, max: 1_700_000_100_000 }),
  fc.integer({ min: -(2 ** 51), max: 2 ** 51 }),
)
const record = fc.record({
  timestampMs: timestamp,
  key: fc.option(fc.string({ maxLength: 200 })),
  value: fc.option(fc.string({ maxLength: 200 })),
  headers: fc.option(fc.array(fc.tuple(name, bytes), { maxLength: 4 }), { nil: undefined }),
})

function line(each: TestRecord & { offset: number }): string {
  const text = (value?: string | null) => (value === null ? 'null' : `'${value}'`)
  const headers = (each.headers ?? []).map(
    ([key, value]) => ` ${key}=${value === null ? 'null' : `'${value.toString()}'`}`,
  )
  return `${each.offset} ${each.timestampMs} ${text(each.key)} ${text(each.value)}${headers.join('')}`
}

test('any records are read back as they were, in any codec, at any offset', () => {
  const input = fc.record({
    records: fc.array(record, { minLength: 1, maxLength: 40 }),
    compression: fc.constantFrom(...CODECS),
    baseOffset: fc.integer({ min: 0, max: 2 ** 52 }),
  })
  fc.assert(
    fc.property(input, ({ records, compression, baseOffset }) => {
      const batch = makeBatch(records, { compression, baseOffset })
      const expected = records.map((each, i) => line({ ...each, offset: baseOffset + i }))
      expect(rendered(decodeBatches(batch))).toEqual(expected)
    }),
    { seed: 1, numRuns: 300 },
  )
})

const samples = [
  ...CODECS.map(codec => golden(codec)),
  golden('commit'),
  golden('log-append-time'),
  Buffer.concat([golden('none'), golden('gzip'), golden('none')]),
]
const damage = fc.record({
  sample: fc.constantFrom(...samples),
  flips: fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 255 })), { maxLength: 4 }),
  cut: fc.option(fc.nat()),
})

/** Decodes everything there is to decode; only errors of the catalogue are allowed out. */
function decodeAll(input: Buffer, verify: boolean): string[] | string {
  try {
    const decoded = decodeBatches(input, { verify })
    for (const columns of decoded.runs) {
      for (let i = 0; i < columns.length; i++) readHeaders(columns, i)
    }
    return rendered(decoded)
  } catch (error) {
    if (error instanceof MillraceError) return error.code
    throw error
  }
}

describe('damaged bytes', () => {
  test('give an error of the catalogue or records, never a crash', () => {
    const seen = new Set<string>()
    fc.assert(
      fc.property(damage, ({ sample, flips, cut }) => {
        const input = Buffer.from(sample)
        for (const [at, mask] of flips) input[at % input.length] ^= mask
        const part = cut === null ? input : input.subarray(0, cut % (input.length + 1))
        const result = decodeAll(part, false)
        seen.add(typeof result === 'string' ? result : 'records')
      }),
      { seed: 2, numRuns: 20_000 },
    )
    expect([...seen].sort()).toEqual(['BATCH_CORRUPT', 'BATCH_MAGIC', 'records'])
  })

  test('never give wrong records when the CRC is verified', () => {
    const flip = fc.record({
      sample: fc.constantFrom(...samples),
      at: fc.nat(),
      mask: fc.integer({ min: 1, max: 255 }),
    })
    fc.assert(
      fc.property(flip, ({ sample, at, mask }) => {
        const input = Buffer.from(sample)
        input[at % input.length] ^= mask
        const result = decodeAll(input, true)
        if (typeof result === 'string') return
        const whole = decodeAll(sample, true) as string[]
        // The base offset is not covered by the CRC: the log checks it against its key.
        expect(result.map(stripOffset)).toEqual(whole.slice(0, result.length).map(stripOffset))
      }),
      { seed: 3, numRuns: 10_000 },
    )
  })

  test('that are not batches at all are refused or too short', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), array => {
        decodeAll(Buffer.from(array), false)
      }),
      { seed: 4, numRuns: 5000 },
    )
  })

  test('inside a batch whose CRC is right are found too', () => {
    const input = fc.record({
      records: fc.uint8Array({ minLength: 0, maxLength: 120 }),
      count: fc.integer({ min: 0, max: 20 }),
      codec: fc.integer({ min: 0, max: 7 }),
    })
    fc.assert(
      fc.property(input, ({ records, count, codec }) => {
        const batch = Buffer.concat([golden('none').subarray(0, 61), records])
        batch.writeInt32BE(batch.length - 12, 8)
        batch.writeInt16BE(codec, 21)
        batch.writeInt32BE(Math.max(0, count - 1), 23)
        batch.writeInt32BE(count, 57)
        decodeAll(batch, false)
      }),
      { seed: 5, numRuns: 20_000 },
    )
  })
})

function stripOffset(rendered: string): string {
  return rendered.slice(rendered.indexOf(' '))
}
