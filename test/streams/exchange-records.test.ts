/** The records of repartition topics: their bytes, what comes back of them, and what is refused. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MillraceError } from '../../log/errors.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { decodeBatches, type RecordColumns } from '../../log/record-columns.ts'
import { readHeaders } from '../../log/record-headers.ts'
import { Batch } from '../../streams/batch.ts'
import { progressCodec } from '../../streams/event-time.ts'
import {
  type ExchangeReader,
  readExchanged,
  readProgress,
  writeExchanged,
  writeProgress,
} from '../../streams/exchange-records.ts'
import { json, Topology, textKey } from '../../streams/index.ts'
import { headersOf, PartitionWriter } from '../../streams/sinks.ts'
import type { ExchangeNode } from '../../streams/topology.ts'
import type { InputProgress } from '../../streams/watermark.ts'

const TARGET = { topic: 'app-by-key-repartition', partition: 3 }

function exchangeNode(): ExchangeNode {
  const topology = new Topology('app')
  topology
    .stream('in', { key: textKey(), value: json<unknown>() })
    .repartition({ name: 'by-key', key: textKey(), value: json<unknown>() })
  return topology.nodes.find(node => node.kind === 'exchange') as ExchangeNode
}

const node = exchangeNode()

interface Item {
  readonly key: string | null
  readonly value: unknown
  readonly timeMs: number
  readonly streamTimeMs: number
  readonly source: number
  readonly offset: number
  readonly headers: readonly (readonly [string, Buffer])[]
  /** Absent in a batch that is not of a table. */
  readonly previous?: unknown
}

/** A batch as a task has it, its headers in columns. */
function batchOf(items: readonly Item[], ofTable: boolean): Batch {
  const builder = new RecordBatchBuilder()
  for (const { headers } of items) builder.append(0, null, null, headers)
  const bytes = items.length === 0 ? Buffer.alloc(0) : builder.finish()
  const batch = new Batch(decodeBatches(bytes).runs[0])
  items.forEach((item, row) => {
    batch.keys.push(item.key)
    batch.values.push(item.value)
    batch.times.push(item.timeMs)
    batch.streamTimes.push(item.streamTimeMs)
    batch.sources.push(item.source)
    batch.offsets.push(item.offset)
    batch.rows.push(row)
    if (ofTable) (batch.previous ??= []).push(item.previous)
  })
  return batch
}

function columnsOf(writer: PartitionWriter): RecordColumns[] {
  return [...decodeBatches(Buffer.concat(writer.take())).runs]
}

class Reader implements ExchangeReader {
  readonly node = node
  readonly topic = TARGET.topic
  readonly partition = TARGET.partition
  readonly told: [number, InputProgress][] = []

  progress(upstream: number, progress: InputProgress): void {
    this.told.push([upstream, progress])
  }

  /** Reads everything as one batch a run. */
  read(runs: readonly RecordColumns[]): Batch[] {
    return runs.map(columns => {
      const batch = new Batch(columns)
      for (let row = 0; row < columns.length; row++) readExchanged(this, columns, row, batch)
      return batch
    })
  }
}

function valueBytes(columns: RecordColumns, row: number): Buffer {
  return columns.bytes.subarray(columns.valueStart[row]!, columns.valueEnd[row]!)
}

const plainItem: Item = {
  key: 'k',
  value: 7,
  timeMs: 1000,
  streamTimeMs: 2000,
  source: 5,
  offset: 258,
  headers: [],
}

/** Hexadecimal of the values written for a batch. */
function written(item: Partial<Item>, ofTable = false): string {
  const writer = new PartitionWriter(TARGET)
  writeExchanged(node, writer, batchOf([{ ...plainItem, ...item }], ofTable), 0)
  return valueBytes(columnsOf(writer)[0]!, 0).toString('hex')
}

const HEAD = '409f400000000000' + '00000005' + '4070200000000000'

test('golden bytes of a record: kind, flags, stream time, source, offset, value', () => {
  expect(written({})).toBe(`0100${HEAD}37`)
  expect(written({ value: null })).toBe(`0101${HEAD}`)
  expect(written({ previous: 6 }, true)).toBe(`0102${HEAD}000000013637`)
  expect(written({ value: null, previous: 6 }, true)).toBe(`0103${HEAD}0000000136`)
  expect(written({ previous: undefined }, true)).toBe(`0104${HEAD}37`)
  expect(written({ streamTimeMs: Number.NEGATIVE_INFINITY, source: -1, offset: 0 })).toBe(
    '0100' + 'fff0000000000000' + 'ffffffff' + '0000000000000000' + '37',
  )
})

test('golden bytes of progress: kind, idle, upstream, time, positions', () => {
  const told = (progress: InputProgress) => {
    const writer = new PartitionWriter(TARGET)
    writeProgress(writer, 9, progress)
    const [columns] = columnsOf(writer)
    expect(columns!.keyStart[0]).toBe(-1)
    return { hex: valueBytes(columns!, 0).toString('hex'), timeMs: columns!.timestamps[0] }
  }
  const positions = new Map([
    [1, 258],
    [2, -1],
  ])
  expect(told({ timeMs: 2000, idle: false, positions })).toEqual({
    hex:
      '0200' +
      '00000009' +
      '409f400000000000' +
      '00000001' +
      '4070200000000000' +
      '00000002bff0000000000000',
    timeMs: 2000,
  })
  expect(told({ timeMs: Number.NEGATIVE_INFINITY, idle: true })).toEqual({
    hex: '0201' + '00000009' + 'fff0000000000000',
    timeMs: 0,
  })
})

test('golden bytes of event-time rows: flags, time, positions or an unfinished close', () => {
  const hex = (progress: Parameters<typeof progressCodec.encode>[0]) =>
    progressCodec.encode(progress).toString('hex')
  expect(hex({ timeMs: 2000, idle: false })).toBe('00' + '409f400000000000')
  expect(hex({ timeMs: Number.NEGATIVE_INFINITY, idle: true })).toBe('01' + 'fff0000000000000')
  const positions = new Map([[5, 258]])
  expect(hex({ timeMs: 2000, idle: true, positions })).toBe(
    '01' + '409f400000000000' + '00000005' + '4070200000000000',
  )
  const closing = { closedMs: 1000, row: 'é' }
  expect(hex({ timeMs: 2000, idle: false, closing })).toBe(
    '02' + '409f400000000000' + '408f400000000000' + 'e9',
  )
  for (const progress of [
    { timeMs: 2000, idle: true, positions },
    { timeMs: Number.NEGATIVE_INFINITY, idle: false, positions },
    { timeMs: 2000, idle: false, closing },
  ]) {
    expect(progressCodec.decode(progressCodec.encode(progress))).toEqual(progress)
  }
})

const times = fc.oneof(
  fc.integer({ min: -1e15, max: 1e15 }),
  fc.constantFrom(Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, -0, 0),
)
const values = fc.oneof(
  fc.constant(null),
  fc.string(),
  fc.integer(),
  fc.array(fc.string(), { maxLength: 3 }),
  fc.record({ id: fc.string(), n: fc.double({ noNaN: true, noDefaultInfinity: true }) }),
)
const items: fc.Arbitrary<Item> = fc.record({
  key: fc.option(fc.string({ unit: 'grapheme' }), { nil: null }),
  value: values.map(value => (Object.is(value, -0) ? 0 : value)),
  timeMs: fc.integer({ min: -1e12, max: 1e15 }),
  streamTimeMs: times,
  source: fc.integer({ min: -1, max: 2 ** 31 - 1 }),
  offset: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  headers: fc.array(
    fc.tuple(
      fc.string(),
      fc.uint8Array({ maxLength: 9 }).map(b => Buffer.from(b)),
    ),
    {
      maxLength: 3,
    },
  ),
  previous: fc.option(
    values.filter(value => value !== null),
    { nil: undefined },
  ),
})

/** As JSON gives it back. */
const plain = (value: unknown) =>
  value === undefined ? undefined : JSON.parse(JSON.stringify(value))

test('what is written is what is read: keys, nulls, times, order keys, headers, values before', () => {
  fc.assert(
    fc.property(fc.array(items, { minLength: 1, maxLength: 8 }), fc.boolean(), (list, ofTable) => {
      const batch = batchOf(list, ofTable)
      const writer = new PartitionWriter(TARGET)
      for (const i of list.keys()) writeExchanged(node, writer, batch, i)
      const [found] = new Reader().read(columnsOf(writer))
      expect(found!.keys).toEqual(list.map(({ key }) => key))
      expect(found!.values).toEqual(list.map(({ value }) => plain(value)))
      expect(found!.times).toEqual(list.map(({ timeMs }) => timeMs))
      expect(found!.streamTimes).toEqual(list.map(({ streamTimeMs }) => streamTimeMs))
      expect(found!.sources).toEqual(list.map(({ source }) => source))
      expect(found!.offsets).toEqual(list.map(({ offset }) => offset))
      expect(found!.previous).toEqual(
        ofTable ? list.map(({ previous }) => plain(previous)) : undefined,
      )
      list.forEach(({ headers }, i) => {
        const slice = headersOf(found!, i)
        expect(slice === undefined ? [] : readHeaders(found!.columns!, i)).toEqual(headers)
      })
    }),
    { numRuns: 300 },
  )
})

test('a run of table changes and plain records keeps each with its own value before', () => {
  const writer = new PartitionWriter(TARGET)
  writeExchanged(node, writer, batchOf([plainItem], false), 0)
  writeExchanged(node, writer, batchOf([{ ...plainItem, previous: 6 }], true), 0)
  writeExchanged(node, writer, batchOf([plainItem], false), 0)
  const [batch] = new Reader().read(columnsOf(writer))
  expect(batch!.previous).toEqual([undefined, 6, undefined])
})

const progresses: fc.Arbitrary<InputProgress> = fc.record({
  timeMs: times,
  idle: fc.boolean(),
  positions: fc
    .array(fc.tuple(fc.nat(), fc.integer({ min: -1, max: Number.MAX_SAFE_INTEGER })))
    .map(pairs => new Map(pairs)),
})

test('progress is read as it was told, at its place between the records', () => {
  fc.assert(
    fc.property(fc.array(progresses, { maxLength: 5 }), list => {
      const writer = new PartitionWriter(TARGET)
      list.forEach((progress, upstream) => {
        writeExchanged(node, writer, batchOf([plainItem], false), 0)
        writeProgress(writer, upstream, progress)
      })
      const reader = new Reader()
      const batches = reader.read(columnsOf(writer))
      expect(reader.told).toEqual(list.map((progress, upstream) => [upstream, progress]))
      expect(batches.reduce((sum, { length }) => sum + length, 0)).toBe(list.length)
    }),
    { numRuns: 200 },
  )
})

/** A record of a repartition topic with these value bytes. */
function foreign(value: Buffer | null, key: Buffer | null): RecordColumns[] {
  const builder = new RecordBatchBuilder()
  const slice = (bytes: Buffer | null) => bytes && { bytes, start: 0, end: bytes.length }
  builder.append(1000, slice(key), slice(value))
  return [...decodeBatches(builder.finish()).runs]
}

function readForeign(value: Buffer | null, key: Buffer | null = Buffer.from('k')): unknown {
  try {
    return new Reader().read(foreign(value, key))
  } catch (error) {
    return error
  }
}

const good = Buffer.from(`0102${HEAD}000000013637`, 'hex')
const bad: readonly [string, Buffer | null][] = [
  ['a null value', null],
  ['nothing', Buffer.alloc(0)],
  ['an unknown kind', Buffer.concat([Buffer.from([3]), good.subarray(1)])],
  ['a record cut in its head', good.subarray(0, 21)],
  ['a record cut in the length of the value before', good.subarray(0, 24)],
  ['a record cut in the value before', good.subarray(0, 26)],
  ['a record without its value', good.subarray(0, 27)],
  ['unknown flags', Buffer.from(`0108${HEAD}37`, 'hex')],
  ['a value before that is there and not', Buffer.from(`0106${HEAD}000000013637`, 'hex')],
  ['bytes behind a null value', Buffer.from(`0101${HEAD}37`, 'hex')],
  ['a value that is none', Buffer.from(`0100${HEAD}7b`, 'hex')],
  [
    'a stream time that is no number',
    Buffer.from(`01007ff8000000000000${HEAD.slice(16)}37`, 'hex'),
  ],
  ['a source below none', Buffer.from(`0100409f400000000000fffffffe${HEAD.slice(24)}37`, 'hex')],
  ['half an offset', Buffer.from(`0100${HEAD.slice(0, 24)}3fe000000000000037`, 'hex')],
  ['progress cut in its head', Buffer.from('020000000009409f40000000', 'hex')],
  ['progress cut in a position', Buffer.from('020000000009409f40000000000000000001', 'hex')],
  ['an idle flag of 2', Buffer.from('020200000009409f400000000000', 'hex')],
]

test.each(bad)('%s is refused with its place', (_, value) => {
  const error = readForeign(value)
  expect(error).toBeInstanceOf(MillraceError)
  expect(error).toMatchObject({
    code: 'EXCHANGE_BROKEN',
    recovery: 'stop',
    details: { ...TARGET, offset: 0 },
  })
})

test('bytes changed at random are read as something, or refused with their place', () => {
  const seeds = [
    good,
    Buffer.from(`0104${HEAD}37`, 'hex'),
    Buffer.from('020000000009409f400000000000000000014070200000000000', 'hex'),
  ]
  const changed = fc
    .record({
      from: fc.constantFrom(...seeds),
      flips: fc.array(fc.tuple(fc.nat(40), fc.integer({ min: 1, max: 255 })), { maxLength: 4 }),
      length: fc.nat(45),
      more: fc.uint8Array({ maxLength: 6 }),
    })
    .map(({ from, flips, length, more }) => {
      const bytes = Buffer.concat([from.subarray(0, length), more])
      for (const [at, mask] of flips) if (at < bytes.length) bytes[at]! ^= mask
      return bytes
    })
  let refused = 0
  fc.assert(
    fc.property(
      fc.oneof(
        changed,
        fc.uint8Array().map(b => Buffer.from(b)),
      ),
      value => {
        const result = readForeign(value)
        if (Array.isArray(result)) return
        refused++
        expect(result).toMatchObject({ code: 'EXCHANGE_BROKEN', details: { ...TARGET, offset: 0 } })
      },
    ),
    { numRuns: 2000 },
  )
  expect(refused).toBeGreaterThan(200)
})

test('progress read alone is refused as a range error', () => {
  const bytes = Buffer.from('020000000009409f400000000000', 'hex')
  expect(readProgress(bytes, 0, bytes.length)).toEqual({
    timeMs: 2000,
    idle: false,
    positions: new Map(),
  })
  expect(() => readProgress(bytes, 0, bytes.length + 1)).toThrow(RangeError)
})
