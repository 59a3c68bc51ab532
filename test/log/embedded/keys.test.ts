import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import * as keys from '../../../log/embedded/keys.ts'

const id = { topic: 0x01020304, partition: 5 }
const hex = (bytes: Buffer) => bytes.toString('hex')

describe('the bytes of the embedded log', () => {
  test('keys', () => {
    expect(hex(keys.batchKey(id, 2 ** 40 + 7))).toBe('4c4201020304000000050000010000000007')
    expect(hex(keys.timeKey(id, 1700000000000))).toBe('4c5401020304000000058000018bcfe56800')
    expect(hex(keys.timeKey(id, -1))).toBe('4c5401020304000000057fffffffffffffff')
    expect(hex(keys.topicKey('ab'))).toBe('544e6162')
    expect(hex(keys.topicCounterKey)).toBe('5443')
    expect(hex(keys.partitionRowKey(id))).toBe('54500102030400000005')
    expect(hex(keys.groupKey('ü', id))).toBe('470002c3bc0102030400000005')
    expect(hex(keys.incarnationKey)).toBe('49')
  })

  test('values', () => {
    const row = { startOffset: 1, cleanedTo: 2, cleanedRecords: 3 }
    expect(hex(keys.encodePartition(row))).toBe(
      '01000000000000000100000000000000020000000000000003',
    )
    expect(hex(keys.encodeGroupOffset(258, 'm'))).toBe('0100000000000001026d')
    expect(hex(keys.encodeCounter(9))).toBe('0100000009')
    expect(hex(keys.encodeOffset(2 ** 32))).toBe('0000000100000000')
    const incarnation = { incarnation: 'i', bootId: 'b', clean: true }
    expect(keys.encodeJson(incarnation).toString()).toBe(
      '\u0001{"incarnation":"i","bootId":"b","clean":true}',
    )
  })

  test('come back as they were', () => {
    const row = { startOffset: 2 ** 50, cleanedTo: 2, cleanedRecords: 3 }
    expect(keys.decodePartition(keys.encodePartition(row))).toEqual(row)
    expect(keys.decodeGroupOffset(keys.encodeGroupOffset(7, 'ü'))).toEqual({
      offset: 7,
      metadata: 'ü',
    })
    expect(keys.parseGroupKey(keys.groupKey('ü', id))).toEqual({ group: 'ü', ...id })
    expect(keys.batchKeyOffset(keys.batchKey(id, 2 ** 52 + 1))).toBe(2 ** 52 + 1)
    expect(keys.topicKeyName(keys.topicKey('a.b'))).toBe('a.b')
  })

  test('times lie in order, negative ones too', () => {
    const time = fc.integer({ min: -(2 ** 52), max: 2 ** 52 })
    fc.assert(
      fc.property(time, time, (a, b) => {
        expect(Math.sign(Buffer.compare(keys.timeKey(id, a), keys.timeKey(id, b)))).toBe(
          Math.sign(a - b),
        )
        expect(keys.timeKeyTimestamp(keys.timeKey(id, a))).toBe(a)
      }),
      { seed: 8 },
    )
  })
})
