import { expect, it } from 'vitest'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import {
  AppendKeys,
  decodeChunk,
  encodeChunk,
  hashKey,
  readRow,
  rowHeaders,
} from '../../state/append-format.ts'
import { AppendIndex } from '../../state/append-index.ts'
import type { StoredRow } from '../../state/port.ts'

const range = (text: string) => {
  const bytes = Buffer.from(text)
  return { bytes, start: 0, end: bytes.length }
}

it('keys, chunks, entries and hashes are what they were', () => {
  const keys = new AppendKeys('left', 3)
  expect(keys.row('c', 60_000, 7).toString('hex')).toBe(
    `42${'6c656674'}00${'0003'}63${'800000000000ea60'}${'8000000000000007'}`,
  )
  expect(keys.segmentStartOf(keys.row('e', -60_000, 7))).toBe(-60_000)
  const chunk = encodeChunk(2, [
    { id: 5, sizeBytes: 1000, records: 10 },
    { id: 15, sizeBytes: 256, records: 1 },
  ])
  expect(chunk.toString('hex')).toBe(
    '01000000' +
      '02000000' +
      '02000000' +
      '00000000' +
      '0000000000001440' +
      'e8030000' +
      '0a000000' +
      '0000000000002e40' +
      '00010000' +
      '01000000',
  )
  expect(encodeChunk(decodeChunk(chunk).tier, decodeChunk(chunk).blocks)).toEqual(chunk)
  const index = new AppendIndex()
  index.add(-2, 0, 61)
  index.add(1, 0, 80)
  expect(index.entries(0, 1).toString('hex')).toBe('feffffff3d000000' + '0100000050000000')
  const hash = (text: string) => hashKey(Buffer.from(text), 0, Buffer.byteLength(text)) >>> 0
  expect(['', 'a', 'order-17'].map(hash)).toEqual([447_806_413, 187_517_516, 1_853_843_542])
})

it('a row in a block keeps key, value, time and stream time', () => {
  const builder = new RecordBatchBuilder()
  const rows = [
    { key: '', value: '', timeMs: 1_000_000, streamTimeMs: 1_000_000 },
    { key: 'k'.repeat(200), value: 'v'.repeat(70_000), timeMs: 900_000, streamTimeMs: 1e12 },
    { key: 'b', value: 'v', timeMs: 1e12, streamTimeMs: 1e12 - 1 },
  ]
  const positions = rows.map(({ key, value, timeMs, streamTimeMs }) => {
    const position = builder.sizeBytes
    builder.append(timeMs, range(key), range(value), rowHeaders({ timeMs, streamTimeMs }))
    return position
  })
  const bytes = builder.finish()
  rows.forEach(({ key, value, timeMs, streamTimeMs }, i) => {
    const row = {} as StoredRow
    const place = { bytes, position: positions[i]!, baseTimeMs: 1_000_000 }
    expect(readRow(place, range('other'), row)).toBe(false)
    expect(readRow(place, range(key), row)).toBe(true)
    expect(bytes.utf8Slice(row.keyStart, row.keyEnd)).toBe(key)
    expect(bytes.utf8Slice(row.valueStart, row.valueEnd)).toBe(value)
    expect([row.timeMs, row.streamTimeMs]).toEqual([timeMs, streamTimeMs])
  })
})

it('a row in order costs no header', () => {
  expect(rowHeaders({ timeMs: 5, streamTimeMs: 5 })).toBe(undefined)
  const header = rowHeaders({ timeMs: 5, streamTimeMs: 6 })!
  expect(header.bytes.subarray(header.start, header.end).toString('hex')).toBe('0202730202')
})

it('where a row stands in its trace is kept behind its stream time', () => {
  const trace = Buffer.from(Array.from({ length: 24 }, (_, i) => i + 1))
  const { bytes: memory, start, end } = rowHeaders({ timeMs: 5, streamTimeMs: 6, trace })!
  const header = memory.subarray(start, end).toString('hex')
  expect(header).toBe(`0402730202${'027430'}${trace.toString('hex')}`)
  const builder = new RecordBatchBuilder()
  const times = [5, 5, 1e12].map(streamTimeMs => {
    const position = builder.sizeBytes
    const headers = rowHeaders({ timeMs: 5, streamTimeMs, ...(streamTimeMs > 5 && { trace }) })
    builder.append(5, range('k'), range('v'), headers)
    return { position, streamTimeMs }
  })
  const traced = { position: builder.sizeBytes, streamTimeMs: 5 }
  builder.append(5, range('k'), range('v'), rowHeaders({ timeMs: 5, streamTimeMs: 5, trace }))
  const bytes = builder.finish()
  const row = {} as StoredRow
  const read = [...times, traced].map(({ position, streamTimeMs }) => {
    expect(readRow({ bytes, position, baseTimeMs: 5 }, range('k'), row)).toBe(true)
    expect(row.streamTimeMs).toBe(streamTimeMs)
    return row.traceStart < 0 ? '' : bytes.toString('hex', row.traceStart, row.traceStart + 24)
  })
  const kept = trace.toString('hex')
  expect(read).toEqual(['', '', kept, kept])
})

it('keys of one hash are told apart by their bytes', () => {
  // Found by search: two keys with the same 32-bit hash.
  const seen = new Map<number, string>()
  let pair: [string, string] | undefined
  for (let i = 0; pair === undefined && i < 400_000; i++) {
    const key = `k${i}`
    const hash = hashKey(Buffer.from(key, 'latin1'), 0, key.length)
    const other = seen.get(hash)
    if (other !== undefined) pair = [other, key]
    seen.set(hash, key)
  }
  expect(pair).toBeDefined()
  const builder = new RecordBatchBuilder()
  const [a, b] = pair!
  builder.append(0, range(a), range('va'))
  const bytes = builder.finish()
  const place = { bytes, position: 61, baseTimeMs: 0 }
  expect(readRow(place, range(a), {} as StoredRow)).toBe(true)
  expect(readRow(place, range(b), {} as StoredRow)).toBe(false)
})
