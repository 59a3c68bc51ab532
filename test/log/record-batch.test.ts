import { describe, expect, test } from 'vitest'
import { CODECS } from '../../log/compression.ts'
import { MillraceError } from '../../log/errors.ts'
import { AT, readBatchHeaders, rebase } from '../../log/record-batch.ts'
import { controlBatch, RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { header } from '../../log/record-headers.ts'
import { batchOf, golden, makeBatch, pairs, rendered, type TestRecord } from './batches.ts'

const six: readonly TestRecord[] = [
  { timestampMs: 1700000000000, key: 'key', value: 'value' },
  { timestampMs: 1699999999000, key: null, value: 'null key, earlier' },
  { timestampMs: 1700000000001, key: 'tombstone', value: null },
  { timestampMs: 1700000000002, key: '', value: '' },
  {
    timestampMs: 1700000000003,
    key: 'headers',
    value: 'v',
    headers: [
      ['ce_id', Buffer.from('01')],
      ['null', null],
      ['ü', Buffer.from('')],
      ['ce_id', Buffer.from('02')],
    ],
  },
  { timestampMs: 4102444800000, key: 'much later', value: 'x'.repeat(300) },
]

const sixRendered = [
  "0 1700000000000 'key' 'value'",
  "1 1699999999000 null 'null key, earlier'",
  "2 1700000000001 'tombstone' null",
  "3 1700000000002 '' ''",
  "4 1700000000003 'headers' 'v' ce_id='01' null=null ü='' ce_id='02'",
  `5 4102444800000 'much later' '${'x'.repeat(300)}'`,
]

const producer = { producerId: 4242, producerEpoch: 7, baseSequence: 99, transactional: true }

function code(run: () => unknown): string {
  try {
    run()
  } catch (error) {
    if (error instanceof MillraceError) return error.code
    throw error
  }
  return 'nothing thrown'
}

describe('batches that Kafka wrote', () => {
  test.each(CODECS)('%s is read as Kafka reads it', codec => {
    const decoded = decodeBatches(golden(codec))
    expect(rendered(decoded)).toEqual(sixRendered)
    expect(decoded).toMatchObject({ nextOffset: 6, truncated: false })
    expect(decoded.batches[0]).toMatchObject({
      codec,
      baseOffset: 0,
      lastOffset: 5,
      isTransactional: true,
      isControl: false,
      producerId: 4242,
      producerEpoch: 7,
      baseSequence: 99,
      baseTimestamp: 1700000000000,
      maxTimestamp: 4102444800000,
      recordCount: 6,
    })
  })

  test('uncompressed batches are written byte for byte', () => {
    const batch = makeBatch(six, producer)
    rebase(batch, 0, 3)
    expect(batch.equals(golden('none'))).toBe(true)
  })

  test('a thousand records with long lengths and deltas are written byte for byte', () => {
    const records = Array.from({ length: 1000 }, (_, i) => ({
      timestampMs: 1700000000000 + i * 37,
      key: `key-${i}`,
      value: 'v'.repeat(i % 70),
    }))
    const batch = makeBatch(records, { baseOffset: 1000 })
    expect(batch.equals(golden('many').subarray(0, batch.length))).toBe(true)
  })

  test('plain and compressed batches follow each other, offsets go on', () => {
    const decoded = decodeBatches(golden('many'))
    const lines = rendered(decoded)
    expect(decoded.batches.map(batch => batch.baseOffset)).toEqual([1000, 2000, 3000])
    expect(lines).toHaveLength(1012)
    expect(lines[999]).toBe(`1999 1700000036963 'key-999' '${'v'.repeat(999 % 70)}'`)
    expect(lines[1000]).toBe("2000 1700000000000 'key' 'value'")
    expect(decoded.nextOffset).toBe(3006)
  })

  test('control batches give no records but move the position', () => {
    const bytes = Buffer.concat([golden('commit'), golden('abort')])
    const decoded = decodeBatches(bytes)
    expect(decoded.runs).toEqual([])
    expect(decoded.batches.map(batch => batch.control)).toEqual(['commit', 'abort'])
    expect(decoded.nextOffset).toBe(6)
  })

  test.each(['commit', 'abort'] as const)('the %s marker is written byte for byte', type => {
    const batch = controlBatch(type, 1700000000000, { id: 4242, epoch: 7, coordinatorEpoch: 11 })
    rebase(batch, 5, 3)
    expect(batch.equals(golden(type))).toBe(true)
  })

  test('timestamps of the log replace those of the records', () => {
    expect(rendered(decodeBatches(golden('log-append-time')))).toEqual([
      "7 1700000000999 'key' 'value'",
    ])
  })
})

test.each(CODECS)('what is written with %s is read back', compression => {
  const batch = makeBatch(six, { compression, ...producer })
  expect(rendered(decodeBatches(batch))).toEqual(sixRendered)
})

describe('reading from inside', () => {
  test('records before fromOffset are left out, whole batches before it too', () => {
    const decoded = decodeBatches(golden('many'), { fromOffset: 1998 })
    expect(rendered(decoded)[0]).toMatch(/^1998 /)
    expect(rendered(decodeBatches(golden('many'), { fromOffset: 2004 }))).toHaveLength(8)
    expect(decodeBatches(golden('many'), { fromOffset: 9000 })).toMatchObject({
      runs: [],
      nextOffset: 9000,
    })
  })

  test('a last batch that is cut off is told apart from a corrupt one', () => {
    const whole = golden('many')
    const first = readBatchHeaders(whole)[0].end
    for (const length of [first + 1, first + 40, first + 200]) {
      const decoded = decodeBatches(whole.subarray(0, length))
      expect(decoded).toMatchObject({ truncated: true, consumed: first, nextOffset: 2000 })
    }
    expect(decodeBatches(Buffer.alloc(0))).toMatchObject({ truncated: false, nextOffset: 0 })
  })

  test('a refused batch gives no records and still moves the position', () => {
    const decoded = decodeBatches(golden('many'), { accept: batch => batch.baseOffset !== 3000 })
    expect(rendered(decoded)).toHaveLength(1006)
    expect(decoded.nextOffset).toBe(3006)
  })
})

describe('headers', () => {
  const columns = decodeBatches(golden('none')).runs[0]

  test('one is found by name, the last of that name wins', () => {
    expect(header(columns, 4, Buffer.from('ce_id'))?.toString()).toBe('02')
    expect(header(columns, 4, Buffer.from('ü'))?.toString()).toBe('')
    expect(header(columns, 4, Buffer.from('null'))).toBeNull()
    expect(header(columns, 4, Buffer.from('absent'))).toBeUndefined()
    expect(header(columns, 0, Buffer.from('ce_id'))).toBeUndefined()
  })

  test('they pass from one batch to another as bytes', () => {
    const { bytes, headersStart, headersEnd } = columns
    const builder = new RecordBatchBuilder()
    builder.append(1, null, null, { bytes, start: headersStart[4], end: headersEnd[4] })
    expect(rendered(decodeBatches(builder.finish()))).toEqual([
      "0 1 null null ce_id='01' null=null ü='' ce_id='02'",
    ])
  })
})

describe('the builder', () => {
  test('tells where key and value lie in the finished batch', () => {
    const builder = new RecordBatchBuilder()
    const source = { bytes: Buffer.from('..key value'), start: 2, end: 5 }
    const value = { bytes: source.bytes, start: 6, end: 11 }
    const places: number[] = []
    for (let i = 0; i < 300; i++) {
      builder.append(i * 1000, source, value)
      places.push(builder.keyPosition, builder.valuePosition)
    }
    const size = builder.sizeBytes
    const batch = builder.finish()
    expect(batch.length).toBe(size)
    const [columns] = decodeBatches(batch).runs
    for (let i = 0; i < 300; i++) {
      expect([columns.keyStart[i], columns.valueStart[i]]).toEqual(places.slice(2 * i, 2 * i + 2))
    }
  })

  test('key and value that stand in a record give the bytes that they give apart', () => {
    for (const valueLength of [0, 1, 63, 64, 127, 128, 1000, 8191, 8192, 20_000]) {
      for (const gap of [0, 1, 2, 3]) {
        const key = Buffer.from('order-1')
        const value = Buffer.alloc(valueLength, 7)
        const apart = new RecordBatchBuilder()
        const slice = (bytes: Buffer) => ({ bytes, start: 0, end: bytes.length })
        apart.append(5, slice(key), slice(value))
        const { keyPosition, valuePosition } = apart
        const alone = Buffer.from(apart.bytes)
        const finished = apart.finish()
        // What stands between them is the length of the value, or any other bytes.
        const longer = Buffer.from([(valueLength << 1) & 0xff, (valueLength >> 6) & 0xff, 0])
        for (const between of [alone.subarray(valuePosition - gap), longer]) {
          const bytes = Buffer.concat([key, between.subarray(0, gap), value])
          const together = new RecordBatchBuilder()
          together.append(
            5,
            { bytes, start: 0, end: key.length },
            { bytes, start: key.length + gap, end: bytes.length },
          )
          expect(together.valuePosition).toBe(valuePosition)
          expect(together.keyPosition).toBe(keyPosition)
          expect(together.finish()).toEqual(finished)
        }
      }
    }
  })

  test('is empty after finish, and its batch does not change when it is used again', () => {
    const builder = new RecordBatchBuilder()
    const slice = { bytes: Buffer.from('ab'), start: 0, end: 1 }
    builder.append(1, slice, slice)
    const first = builder.finish()
    expect([builder.count, builder.sizeBytes]).toEqual([0, 61])
    slice.start = 1
    slice.end = 2
    builder.append(2, slice, slice)
    expect(pairs(builder.finish())).toEqual(['0 b=b'])
    expect(pairs(first)).toEqual(['0 a=a'])
  })

  test('leaves the gaps that compaction makes', () => {
    const builder = new RecordBatchBuilder()
    builder.offsetDelta = 3
    builder.append(5, null, null)
    builder.offsetDelta = 7
    builder.append(6, null, null)
    const batch = builder.finish({ lastOffsetDelta: 9, baseOffset: 100 })
    const decoded = decodeBatches(batch)
    expect([...decoded.runs[0].offsets]).toEqual([103, 107])
    expect(decoded.nextOffset).toBe(110)
  })
})

describe('what is refused', () => {
  const changed = (change: (batch: Buffer) => void, verify = false) => {
    const batch = makeBatch(six)
    change(batch)
    return code(() => decodeBatches(batch, { verify }))
  }

  test('any other magic, saying which', () => {
    expect(changed(batch => batch.writeInt8(1, AT.magic))).toBe('BATCH_MAGIC')
  })

  test('a wrong CRC, with position and base offset', () => {
    const bytes = Buffer.concat([batchOf('a=1'), batchOf('b=2')])
    rebase(bytes.subarray(bytes.length / 2), 1)
    bytes[bytes.length - 2] ^= 1
    const error = (() => {
      try {
        return decodeBatches(bytes)
      } catch (thrown) {
        return thrown
      }
    })()
    expect(error).toMatchObject({
      code: 'BATCH_CORRUPT',
      details: { position: bytes.length / 2, baseOffset: 1 },
    })
    expect(pairs(bytes, { verify: false })).toHaveLength(2)
  })

  test.each([
    ['unknown compression', (batch: Buffer) => batch.writeInt16BE(7, AT.attributes)],
    ['a count beyond its offsets', (batch: Buffer) => batch.writeInt32BE(7, AT.recordCount)],
    ['a negative count', (batch: Buffer) => batch.writeInt32BE(-1, AT.recordCount)],
    ['fewer records than bytes', (batch: Buffer) => batch.writeInt32BE(5, AT.recordCount)],
    ['an end before its begin', (batch: Buffer) => batch.writeInt32BE(-1, AT.lastOffsetDelta)],
    ['a length below the header', (batch: Buffer) => batch.writeInt32BE(48, AT.batchLength)],
    ['a negative length', (batch: Buffer) => batch.writeInt32BE(-1, AT.batchLength)],
    ['an offset beyond 2^53', (batch: Buffer) => batch.writeInt32BE(0x7fffffff, 0)],
    ['a record longer than the batch', (batch: Buffer) => batch.writeInt16BE(0x7e7e, AT.records)],
  ])('%s', (_, change) => {
    expect(changed(change)).toBe('BATCH_CORRUPT')
  })

  const withRecord = (hex: string) => {
    const batch = Buffer.concat([makeBatch([{}]).subarray(0, AT.records), Buffer.from(hex, 'hex')])
    batch.writeInt32BE(batch.length - 12, AT.batchLength)
    return batch
  }

  test.each([
    ['bytes after a record without headers', '0e00000001010000'],
    ['a timestamp that does not end', `2000${'ff'.repeat(11)}0100010100`],
    ['a key of length -2', '0c000000030100'],
    ['a value of length -2', '0c000000010300'],
    ['no record at all', ''],
  ])('%s', (_, hex) => {
    expect(rendered(decodeBatches(withRecord('0c000000010100'), { verify: false }))).toEqual([
      '0 0 null null',
    ])
    expect(code(() => decodeBatches(withRecord(hex), { verify: false }))).toBe('BATCH_CORRUPT')
  })

  test.each([
    ['a negative count', '0c000000010101'],
    ['a name beyond the record', '0e00000001010208'],
    ['a negative name length', '1000000001010201' + '01'],
    ['a value beyond the record', '100000000101020008'],
    ['bytes after the last', '120000000101020001' + '00'],
  ])('headers with %s, when they are read', (_, hex) => {
    const [columns] = decodeBatches(withRecord(hex), { verify: false }).runs
    expect(code(() => header(columns, 0, Buffer.from('x')))).toBe('BATCH_CORRUPT')
  })

  test('a claim of two billion records allocates nothing', () => {
    for (const codec of CODECS) {
      const batch = makeBatch(six, { compression: codec })
      batch.writeInt32BE(0x7ffffffe, AT.recordCount)
      batch.writeInt32BE(0x7ffffffe, AT.lastOffsetDelta)
      expect(code(() => decodeBatches(batch, { verify: false }))).toBe('BATCH_CORRUPT')
    }
  })
})
