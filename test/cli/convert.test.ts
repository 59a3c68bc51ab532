import { readFile, writeFile } from 'node:fs/promises'
import zlib from 'node:zlib'
import fc from 'fast-check'
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet'
import { describe, expect, test } from 'vitest'
import { convertCommand } from '../../cli/convert.ts'
import { eventLine, parseRecordLine, recordLine } from '../../cli/record-lines.ts'
import { openRecordingFile } from '../../cli/recording-file.ts'
import { eventRecord } from '../../contracts/event-record.ts'
import type { BusinessEvent } from '../../contracts/events.ts'
import type { EmbeddedLog } from '../../log/embedded/index.ts'
import { partitionOf } from '../../log/murmur2.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import type { Header } from '../../log/record-headers.ts'
import { openRecording } from '../../recording/reader.ts'
import { openOnMemory } from '../log/embedded/environment.ts'
import { contentsOf, MemoryFile, recordInto, resumeInto, smallLog } from '../recording/worlds.ts'
import { scratchPaths } from '../support/scratch.ts'

interface Bytes {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: readonly Header[]
  readonly timestamp: number
}

const whole = (bytes: Buffer | null) => bytes && { bytes, start: 0, end: bytes.length }

function batchOf(records: readonly Bytes[]): Buffer {
  const builder = new RecordBatchBuilder()
  for (const { key, value, headers, timestamp } of records) {
    builder.append(timestamp, whole(key), whole(value), headers)
  }
  return builder.finish()
}

const cancelled = (orderId: string, cancelledAt: number): BusinessEvent => {
  return { type: 'OrderCancelled', orderId, reason: 'héllo\n', cancelledAt }
}

const eventOf = (i: number) =>
  eventRecord(cancelled(`o${i}`, 1_000_000 + i), { id: `e${i}`, source: 'test' })

describe('a record as a line', () => {
  const buffer = fc.uint8Array({ maxLength: 40 }).map(array => Buffer.from(array))
  const bytes = fc.record({
    key: fc.option(buffer),
    value: fc.option(buffer),
    headers: fc.array(fc.tuple(fc.string({ maxLength: 5 }), fc.option(buffer)), { maxLength: 3 }),
    timestamp: fc.integer({ min: -(2 ** 51), max: 2 ** 51 }),
  })

  test('any bytes come back as they were', () => {
    fc.assert(
      fc.property(bytes, fc.nat(9999), (record, partition) => {
        const [columns] = decodeBatches(batchOf([record])).runs
        const line = recordLine({ topic: 'any.topic', partition }, columns!, 0)
        const back = parseRecordLine(line, () => 'new')
        expect(back).toEqual({ ok: true, topic: 'any.topic', partition, ...record })
      }),
      { seed: 3, numRuns: 300 },
    )
  })

  test('an event is a line that the service takes, and comes back byte for byte', () => {
    const record = eventOf(1)
    const [columns] = decodeBatches(batchOf([record])).runs
    const line = eventLine('orders', columns!, 0)!
    expect(JSON.parse(line)).toMatchObject({ topic: 'orders', type: 'OrderCancelled', key: 'o1' })
    expect(parseRecordLine(line, () => 'new')).toEqual({
      ok: true,
      partition: undefined,
      ...record,
    })
  })

  test('what the service would refuse keeps its bytes: another key, topic, or odd headers', () => {
    const { value, timestamp } = eventOf(1)
    const key = Buffer.from('o1')
    const odd: readonly (readonly [string, Partial<Bytes>])[] = [
      ['orders', { key: Buffer.from('other') }],
      ['payments', { key }],
      ['orders', { key, timestamp: timestamp + 1 }],
      ['orders', { key, headers: [['a', null]] }],
      ['orders', { key, headers: [['a', Buffer.of(0xff)]] }],
      [
        'orders',
        {
          key,
          headers: [
            ['a', key],
            ['a', key],
          ],
        },
      ],
      ['orders', { key: null }],
    ]
    for (const [topic, change] of odd) {
      const record = { key, value, timestamp, headers: [], ...change }
      const [columns] = decodeBatches(batchOf([record])).runs
      const line = recordLine({ topic, partition: 0 }, columns!, 0)
      expect(JSON.parse(line).encoding).toBe('base64')
      expect(parseRecordLine(line, () => 'new')).toMatchObject({ ok: true, ...record })
    }
  })

  test('a line that is neither is refused with what is wrong', () => {
    const good = {
      ...{ topic: 't', partition: 0, timestamp: 1, encoding: 'base64' },
      ...{ key: null, value: 'AA==', headers: [] },
    }
    const refused = (change: object) => {
      const result = parseRecordLine(JSON.stringify({ ...good, ...change }), () => '')
      return result.ok ? 'ok' : result.detail.split(':')[0]
    }
    expect(refused({})).toBe('ok')
    for (const topic of ['', 'a b', 7, null]) expect(refused({ topic })).toBe('topic')
    for (const partition of [-1, 1.5, 10_000, '0', null]) {
      expect(refused({ partition })).toBe('partition')
    }
    for (const timestamp of [1.5, 2 ** 53, '1', null])
      expect(refused({ timestamp })).toBe('timestamp')
    for (const key of ['!', 'AA', 5, undefined, {}]) expect(refused({ key })).toBe('key')
    expect(refused({ value: 'x' })).toBe('value')
    for (const headers of [null, {}, [['a']], [['a', 5]], [[5, 'AA==']], ['a']]) {
      expect(refused({ headers })).toBe('headers')
    }
    for (const text of ['', '{', '[]', 'null', '"encoding"', '{"encoding":"base64"']) {
      expect(parseRecordLine(text, () => '').ok).toBe(false)
    }
  })
})

describe('millrace convert', () => {
  const at = scratchPaths()

  async function convert(...operands: string[]) {
    let err = ''
    const terminal = {
      environment: {},
      out: () => {},
      err: (text: string) => void (err += text),
      isInteractive: false,
    }
    const flags = operands.length > 2 ? { partitions: operands[2] } : {}
    const code = await convertCommand.run({ flags, operands: operands.slice(0, 2), terminal })
    return { code, err }
  }

  async function parquetRows(path: string) {
    const file = await asyncBufferFromFile(path)
    const unpack = (bytes: Uint8Array) => new Uint8Array(zlib.zstdDecompressSync(bytes))
    return parquetReadObjects({ file, compressors: { ZSTD: unpack }, utf8: false })
  }

  test('there and back the records are the same, in the same partitions and order; Parquet has them', async () => {
    const { log, dispose } = await openOnMemory()
    await log.createTopic('orders', 3)
    await log.createTopic('foreign', 2)
    const events = Array.from({ length: 50 }, (_, i) => eventOf(i))
    const bytes = { key: null, value: Buffer.of(0, 255), headers: [], timestamp: -5 }
    for (const [topic, partition, records] of [
      ...[0, 1, 2].map(p => {
        const own = events.filter(({ key }) => partitionOf(key, 0, key.length, 3) === p)
        return ['orders', p, own] as const
      }),
      ['foreign', 1, [bytes, { ...bytes, timestamp: 7 }]] as const,
    ]) {
      const transaction = log.begin()
      transaction.append({ topic, partition }, batchOf(records))
      await transaction.commit()
    }
    const file = new MemoryFile()
    await recordInto(file, log as EmbeddedLog, { topics: ['orders', 'foreign'] })
    await dispose()
    await writeFile(at('a.mrec'), file.bytes)
    const lost = 'Not in the lines: orders had 3 partitions, foreign had 2 partitions.'
    const converted = { code: 0, err: `52 records\n${lost}\n` }
    expect(await convert(at('a.mrec'), at('a.ndjson'))).toEqual(converted)
    const lines = (await readFile(at('a.ndjson'), 'utf8')).trim().split('\n')
    const times = lines.map(line => JSON.parse(line).timestamp)
    expect(times).toEqual(times.toSorted((a, b) => a - b))
    expect((await convert(at('a.ndjson'), at('b.mrec'), '3')).code).toBe(0)
    const back = await openRecordingFile(at('b.mrec'))
    expect(await contentsOf(back)).toEqual(await contentsOf(file))
    await back.close()

    expect((await convert(at('a.mrec'), at('a.parquet'))).code).toBe(0)
    const rows = await parquetRows(at('a.parquet'))
    expect(rows.map(row => (row.timestamp as Date).getTime())).toEqual(times)
    const { value, ...first } = rows[0]!
    expect(Buffer.from(value as Uint8Array)).toEqual(bytes.value)
    const nothing = { type: null, event: null, headers: '{}', key: null }
    const timestamp = new Date(-5)
    expect(first).toEqual({ topic: 'foreign', partition: 1, offset: 0n, timestamp, ...nothing })
    const event = rows.find(row => Buffer.from((row.key ?? []) as Uint8Array).toString() === 'o7')!
    expect(event).toMatchObject({ topic: 'orders', type: 'OrderCancelled' })
    expect(JSON.parse(event.event as string)).toMatchObject({ orderId: 'o7', reason: 'héllo\n' })
    expect(JSON.parse(event.headers as string)).toMatchObject({ ce_id: 'e7', ce_source: 'test' })
  })

  test('what lines do not have of topics is told on both ways; others keep their partitions', async () => {
    const { log, dispose } = await openOnMemory()
    await log.createTopic('tab', 1, { cleanup: 'compact' })
    const transaction = log.begin()
    const row = { key: Buffer.of(1), value: Buffer.alloc(1 << 20), headers: [], timestamp: 5 }
    transaction.append({ topic: 'tab', partition: 0 }, batchOf([row]))
    await transaction.commit()
    const file = new MemoryFile()
    await recordInto(file, log as EmbeddedLog, { topics: ['tab'] })
    await dispose()
    await writeFile(at('tab.mrec'), file.bytes)
    const there = await convert(at('tab.mrec'), at('tab.ndjson'))
    const lost = 'Not in the lines: tab had 1 partition and settings of its own.'
    expect(there).toEqual({ code: 0, err: `1 records\n${lost}\n` })
    const wide = await convert(at('tab.ndjson'), at('tab7.mrec'), '7')
    expect(wide.err).toContain('default settings: tab 7 partitions')
    const back = await convert(at('tab.ndjson'), at('tab2.mrec'))
    const made = 'Topics, with default settings: tab 1 partition'
    expect(back).toEqual({ code: 0, err: `1 records\n${made}\n` })
    const again = await openRecordingFile(at('tab2.mrec'))
    const { header, blocks } = await openRecording(again)
    expect(header.topics[0]!.config.batchBytesMax).toBeGreaterThan(blocks[0]!.spans[0]!.bytes)
    await again.close()
    const refused = { code: 'USAGE', message: expect.stringContaining('--partitions is of topics') }
    await expect(convert(at('tab.mrec'), at('t.ndjson'), '3')).rejects.toMatchObject(refused)
  })

  test('of a damaged recording it converts what lies before, says so, and nothing is left of nothing', async () => {
    const { log, dispose } = await smallLog(2)
    const file = new MemoryFile()
    await recordInto(file, log, { options: { recordsMax: 4 } })
    await resumeInto(file, log)
    await dispose()
    const [first, second] = (await openRecording(file)).blocks
    file.bytes[second!.position + second!.size]! ^= 1
    await writeFile(at('half.mrec'), file.bytes)
    const { code, err } = await convert(at('half.mrec'), at('half.ndjson'))
    expect(code).toBe(1)
    expect(err).toContain(`\n${at('half.mrec')} is damaged at byte ${second!.position}`)
    expect((await readFile(at('half.ndjson'), 'utf8')).trim().split('\n')).toHaveLength(4)
    file.bytes[first!.position + first!.size]! ^= 1
    await writeFile(at('none.mrec'), file.bytes)
    for (const to of ['none.ndjson', 'none.parquet']) {
      const refused = { code: 'RECORDING_DAMAGED' }
      await expect(convert(at('none.mrec'), at(to))).rejects.toMatchObject(refused)
      await expect(readFile(at(to))).rejects.toThrow('ENOENT')
    }
  })

  test('Parquet keeps headers whose name comes again', async () => {
    const { log, dispose } = await openOnMemory()
    await log.createTopic('t', 1)
    const texts = ['via=one', 'via=two', 'a=x'].map(text => text.split('='))
    const headers = texts.map(([name, value]): Header => [name!, Buffer.from(value!)])
    const transaction = log.begin()
    const record = { key: null, value: null, headers, timestamp: 1 }
    transaction.append({ topic: 't', partition: 0 }, batchOf([record]))
    await transaction.commit()
    const file = new MemoryFile()
    await recordInto(file, log as EmbeddedLog, { topics: ['t'] })
    await dispose()
    await writeFile(at('via.mrec'), file.bytes)
    expect((await convert(at('via.mrec'), at('via.parquet'))).code).toBe(0)
    const [row] = await parquetRows(at('via.parquet'))
    expect(JSON.parse(row!.headers as string)).toEqual({ via: ['one', 'two'], a: 'x' })
  })

  test('bad lines are told with their numbers, and nothing is written', async () => {
    const good = '{"topic":"t","partition":0,"timestamp":1,"encoding":"base64","key":null'
    await writeFile(at('bad.ndjson'), `${good},"value":null,"headers":[]}\n\n{}\n{"encoding"\n`)
    const { code, err } = await convert(at('bad.ndjson'), at('bad.mrec'))
    expect(code).toBe(1)
    expect(err).toContain('Nothing was converted.\n  line 3  TOPIC_UNKNOWN')
    expect(err).toContain('line 4  JSON_INVALID')
    await expect(readFile(at('bad.mrec'))).rejects.toThrow('ENOENT')
  })

  test('files that exist stay, those that do not are named, and one of two is a recording', async () => {
    await writeFile(at('there.ndjson'), '')
    await writeFile(at('there.mrec'), '')
    await expect(convert(at('there.ndjson'), at('there.mrec'))).rejects.toThrow('exists already')
    await expect(convert(at('a.mrec'), at('there.ndjson'))).rejects.toThrow('exists already')
    await expect(convert(at('there.mrec'), at('new.ndjson'))).rejects.toThrow('it is empty')
    await expect(convert(at('no.ndjson'), at('new.mrec'))).rejects.toThrow('cannot be read')
    await expect(convert(at('no.mrec'), at('new.ndjson'))).rejects.toThrow('cannot be read')
    await expect(convert(at('a.ndjson'), at('b.ndjson'))).rejects.toThrow('is a recording')
    for (const count of ['0', '10001', '5000000000']) {
      const refused = { code: 'USAGE', message: expect.stringContaining('--partitions: expected') }
      await expect(convert(at('a.ndjson'), at('c.mrec'), count)).rejects.toMatchObject(refused)
    }
  })
})
