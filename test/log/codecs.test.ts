/** The small parts under the record batch: checksum, integers, compression, partitioner. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CODECS, compress, DECOMPRESSED_BYTES_MAX, decompress } from '../../log/compression.ts'
import { crc32c, crc32cByTable } from '../../log/crc32c.ts'
import { murmur2, partitionOf } from '../../log/murmur2.ts'
import {
  readVarint,
  readVarlong,
  varintSize,
  varlongSize,
  writeVarint,
  writeVarlong,
} from '../../log/varint.ts'

describe('CRC-32C', () => {
  test('of the check string is that of the standard', () => {
    const check = Buffer.from('123456789')
    expect(crc32c(check)).toBe(0xe3069283)
    expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa)
    expect(crc32c(Buffer.alloc(0))).toBe(0)
  })

  test('is the same by table and by native code, at every length and place', () => {
    const bytes = Buffer.from(Array.from({ length: 3000 }, (_, i) => (i * 7919) >>> 3))
    for (let end = 0; end < bytes.length; end += 13) {
      for (const start of [0, 1, 5]) {
        if (start > end) continue
        expect(crc32c(bytes, start, end)).toBe(crc32cByTable(bytes, start, end))
      }
    }
  })
})

describe('variable-length integers', () => {
  const bytes = Buffer.alloc(16)
  const edges = [0, -1, 1, 63, -64, 64, 8191, 8192, -8193, 2 ** 31 - 1, -(2 ** 31)]
  const wide = [2 ** 31, -(2 ** 31) - 1, 2 ** 32, 1.7e12, -1.7e12, 2 ** 51, -(2 ** 51)]

  test.each(edges)('%d is 32 bits and comes back', value => {
    const end = writeVarint(bytes, 1, value)
    const cursor = { position: 1 }
    expect(end - 1).toBe(varintSize(value))
    expect(readVarint(bytes, cursor)).toBe(value)
    expect(cursor.position).toBe(end)
  })

  test.each([...edges, ...wide])('%d is a varlong and comes back', value => {
    const end = writeVarlong(bytes, 1, value)
    const cursor = { position: 1 }
    expect(end - 1).toBe(varlongSize(value))
    expect(readVarlong(bytes, cursor)).toBe(value)
    expect(cursor.position).toBe(end)
  })

  test('any safe timestamp comes back', () => {
    fc.assert(
      fc.property(fc.integer({ min: -(2 ** 52), max: 2 ** 52 }), value => {
        const end = writeVarlong(bytes, 0, value)
        expect(end).toBe(varlongSize(value))
        expect(readVarlong(bytes, { position: 0 })).toBe(value)
      }),
      { seed: 6, numRuns: 2000 },
    )
  })

  test.each([
    ['the largest 64-bit integer', 'feffffffffffffffff01', Number.MAX_SAFE_INTEGER],
    ['the smallest 64-bit integer', 'ffffffffffffffffff01', -Number.MAX_SAFE_INTEGER],
  ])('%s is cut off at 2^53', (_, hex, value) => {
    expect(readVarlong(Buffer.from(hex, 'hex'), { position: 0 })).toBe(value)
  })

  test.each(['', '80', 'ffffffffff', 'ffffffff10', '8080808080'])('%j is no varint', hex => {
    const cursor = { position: 0 }
    expect(readVarint(Buffer.from(hex, 'hex'), cursor)).toBeNaN()
    expect(cursor.position).toBe(0)
  })

  test.each(['', 'ff', 'ffffffffffffffffff', 'ffffffffffffffffff02', 'ffffffffffffffffffff01'])(
    '%j is no varlong',
    hex => {
      expect(readVarlong(Buffer.from(hex, 'hex'), { position: 0 })).toBeNaN()
    },
  )
})

describe('compression', () => {
  const bombs = DECOMPRESSED_BYTES_MAX + 1

  test.each(CODECS)('%s gives back what it took, across its own block sizes', codec => {
    for (const length of [0, 1, 100, 32 * 1024, 100_000, 300_000]) {
      const bytes = Buffer.from(Array.from({ length }, (_, i) => (i * i) >>> 5))
      expect(decompress(codec, compress(codec, bytes)).equals(bytes)).toBe(true)
    }
  })

  test.each(CODECS.slice(1))('%s never gives more than its bound', codec => {
    const bomb = compress(codec, Buffer.alloc(bombs))
    expect(() => decompress(codec, bomb)).toThrow()
  })

  test('raw snappy without Kafka frames is read', () => {
    const framed = compress('snappy', Buffer.from('some text, some text, some text'))
    expect(decompress('snappy', framed.subarray(20)).toString()).toMatch(/^some text/)
  })

  test.each(['ff', '05fcffffff7f', '0afcfbffffff', '0c010000', '0300', '02010100ff'])(
    'snappy bytes %s are refused, not looped over',
    hex => {
      expect(() => decompress('snappy', Buffer.from(hex, 'hex'))).toThrow()
    },
  )
})

describe('the partitioner', () => {
  // From Apache Kafka's UtilsTest.testMurmur2.
  const vectors = [
    ['21', -973932308],
    ['foobar', -790332482],
    ['a-little-bit-long-string', -985981536],
    ['a-little-bit-longer-string', -1486304829],
    ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
    ['abc', 479470107],
  ] as const

  test.each(vectors)('hashes %s as Java does', (text, hash) => {
    expect(murmur2(Buffer.from(text))).toBe(hash)
    expect(murmur2(Buffer.from(`xx${text}yy`), 2, 2 + text.length)).toBe(hash)
  })

  test('agrees with Java on keys of every length and byte', () => {
    const lines = readFileSync(join(import.meta.dirname, 'golden/murmur2.txt'), 'utf8').trim()
    for (const each of lines.split('\n')) {
      const [hex, hash, partition] = each.split(' ')
      const key = Buffer.from(hex, 'hex')
      expect(murmur2(key)).toBe(Number(hash))
      expect(partitionOf(key, 0, key.length, 12)).toBe(Number(partition))
    }
  })
})
