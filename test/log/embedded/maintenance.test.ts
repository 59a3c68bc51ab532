import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { CODECS } from '../../../log/compression.ts'
import { type EmbeddedLog, openEmbeddedLog } from '../../../log/embedded/index.ts'
import * as keys from '../../../log/embedded/keys.ts'
import { decodeBatches } from '../../../log/record-columns.ts'
import { append, codeOf, p0, readAll } from '../../conformance/log.ts'
import { makeBatch, rendered } from '../batches.ts'
import { environment } from './environment.ts'
import { RecordingDatabase } from './recording-database.ts'

const table = { topic: 'table', partition: 0 }
let database: RecordingDatabase
let log: EmbeddedLog

beforeEach(async () => {
  database = new RecordingDatabase()
  log = await openEmbeddedLog(database, environment, { activeBytes: 1, compactionKeysMax: 3 })
  await log.createTopic('table', 1, { cleanup: 'compact', deleteRetentionMs: 1000 })
  await log.createTopic('orders', 1, { retentionMs: 1000 })
})
afterEach(async () => {
  await log.close()
  expect(database.openHandles).toBe(0)
})

const values = (from: number, count: number, name = 'k') =>
  Array.from({ length: count }, (_, i) => `${name}${i}=${from + i}`)

/** The rows that lines like `0 k=1` fold to. */
function foldedRows(lines: readonly string[]): Record<string, string> {
  return Object.fromEntries(lines.map(line => line.split(' ')[1].split('=')))
}

describe('compaction', () => {
  test('with more keys than it may remember goes on in the next passes', async () => {
    for (let round = 0; round < 3; round++) {
      for (const text of values(round * 10, 8)) await append(log, table, text)
    }
    await append(log, table, 'z=9')
    const before = foldedRows(await readAll(log, table))
    const counts: number[] = [25]
    while (counts.length < 10) {
      await log.maintain(0)
      counts.push((await readAll(log, table)).length)
      expect(foldedRows(await readAll(log, table))).toEqual(before)
    }
    expect(counts).toEqual([...counts].sort((a, b) => b - a))
    // What is left over is less than half: not due.
    expect(new Set(counts).size).toBeGreaterThan(3)
    expect(counts.at(-1)).toBeLessThan(18)
  })

  test('is not due while less than half is new', async () => {
    for (const text of [...values(0, 3), 'z=1']) await append(log, table, text)
    await log.maintain(0)
    for (const text of ['k0=7', 'z=2']) await append(log, table, text)
    expect(await log.maintain(0)).toEqual({ batchesDeleted: 0, recordsCompacted: 0 })
    for (const text of ['k0=8', 'k0=9', 'z=3']) await append(log, table, text)
    expect((await log.maintain(0)).recordsCompacted).toBeGreaterThan(0)
  })

  test('looks again where its newest bytes begin once half as much has come', async () => {
    await log.close()
    log = await openEmbeddedLog(database, environment, { activeBytes: 10_000 })
    const scan = vi.spyOn(database, 'scan')
    const scans = async () => {
      const before = scan.mock.calls.length
      const { recordsCompacted } = await log.maintain(0)
      const first = keys.batchKey({ topic: 1, partition: 0 }, 0)
      const ofTable = scan.mock.calls
        .slice(before)
        .filter(([{ gte, reverse }]) => reverse === true && first.equals(gte))
      return [ofTable.length, recordsCompacted]
    }
    const add = async (count: number) => {
      for (let i = 0; i < count; i++) await append(log, table, `k=${'v'.repeat(1000)}`)
    }
    await add(3)
    expect(await scans(), 'not looked at since it was opened').toEqual([1, 0])
    await add(4)
    expect(await scans()).toEqual([0, 0])
    await add(1)
    expect(await scans(), 'half as much, and all of it is active').toEqual([1, 0])
    await add(3)
    expect(await scans()).toEqual([0, 0])
    await add(2)
    // Of the four behind the newest bytes the last stays.
    expect((await scans())[1]).toBe(3)
    expect(foldedRows(await readAll(log, table))).toEqual({ k: 'v'.repeat(1000) })
    scan.mockRestore()
  })

  test.each(CODECS)(
    'keeps %s, times, headers and the producer of what stays',
    async compression => {
      const headers = [['h', Buffer.from('1')]] as const
      const records = [
        { timestampMs: 9, key: 'b', value: '2', headers },
        { timestampMs: 7, key: 'c', value: null, headers },
        { timestampMs: 5, key: 'a', value: '1' },
      ]
      const transaction = log.begin()
      const producer = { producerId: 5, producerEpoch: 6, baseSequence: 7, transactional: true }
      transaction.append(table, makeBatch(records, { compression, ...producer }))
      await transaction.commit()
      await append(log, table, 'a=3')
      await append(log, table, 'z=1')
      await log.maintain(100)
      const [{ bytes }] = await log.fetch([{ ...table, offset: 0, bytesMax: 1e6 }])
      const decoded = decodeBatches(bytes)
      expect(rendered(decoded).slice(0, 2)).toEqual(["0 9 'b' '2' h='1'", "1 7 'c' null h='1'"])
      expect(decoded.batches[0]).toMatchObject({
        baseOffset: 0,
        nextOffset: 3,
        recordCount: 2,
        codec: compression,
        isTransactional: true,
        producerId: 5,
        producerEpoch: 6,
        baseSequence: 7,
        maxTimestamp: 9,
      })
    },
  )

  test('lets transactions through, and none of them is lost', async () => {
    for (let i = 0; i < 200; i++) await append(log, table, `k${i % 3}=${i}`)
    const passes = log.maintain(0)
    const appends = Promise.all(values(1000, 50, 'n').map(text => append(log, table, text)))
    await Promise.all([passes, appends])
    const lines = await readAll(log, table)
    expect(lines.slice(-50)).toEqual(values(1000, 50, 'n').map((text, i) => `${200 + i} ${text}`))
    expect(lines.length).toBeLessThan(250)
  })

  /** Starts a change that stays in the writer until a pass has read all it wants to write. */
  const duringPass = async (change: () => Promise<void>) => {
    let release = () => {}
    database.hold = new Promise(resolve => (release = resolve))
    const changed = change()
    const pass = log.maintain(0)
    for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve))
    database.hold = undefined
    release()
    await changed
    return pass
  }

  const storedKeys = async () => {
    const left: string[] = []
    for await (const entries of database.scan({ gte: Buffer.from('L'), lt: Buffer.from('U') })) {
      for (const { key } of entries) left.push(key.toString('latin1'))
    }
    return left
  }

  test('does not bring back what was deleted meanwhile', async () => {
    for (let i = 0; i < 20; i++) await append(log, table, `a=${i}`, `b${i % 3}=1`)
    await duringPass(() => log.deleteRecords(table, 30))
    expect((await log.offsets([table]))[0].startOffset).toBe(30)
    const batches = (await storedKeys()).filter(key => key.startsWith('LB'))
    const offsets = batches.map(key => keys.batchKeyOffset(Buffer.from(key, 'latin1')))
    expect(Math.min(...offsets)).toBe(30)
    expect(foldedRows(await readAll(log, table, 30))).toMatchObject({ a: '19', b1: '1' })
  })

  test('of a topic deleted meanwhile leaves nothing behind', async () => {
    for (let i = 0; i < 20; i++) await append(log, table, `a=${i}`, `b${i % 3}=1`)
    await duringPass(() => log.deleteTopic('table'))
    await log.deleteTopic('orders')
    expect(await storedKeys()).toEqual(['TC'])
  })

  test('stops at a corrupt batch and leaves it as it is', async () => {
    for (let i = 0; i < 5; i++) await append(log, table, `a=${i}`)
    const key = keys.batchKey({ topic: 1, partition: 0 }, 2)
    const [value] = await database.getMany([key])
    const changed = Buffer.from(value as Buffer)
    changed[66] ^= 1
    const batch = database.batch()
    batch.put(key, changed)
    await batch.commit()
    expect(await codeOf(() => log.maintain(0))).toBe('BATCH_CORRUPT')
    expect((await database.getMany([key]))[0]?.equals(changed)).toBe(true)
  })

  test('a power cut in a pass leaves a table that folds to the same', async () => {
    for (let i = 0; i < 60; i++) await append(log, table, `k${i % 7}=${i % 5 === 0 ? '' : i}`)
    await append(log, table, 'z=1')
    const fold = async (each: EmbeddedLog) => {
      const rows = new Map<string, string>()
      for (const line of await readAll(each, table)) {
        const [key, value] = line.slice(line.indexOf(' ') + 1).split('=')
        if (value === '') rows.delete(key)
        else rows.set(key, value)
      }
      return [...rows].sort()
    }
    const before = await fold(log)
    const from = database.committed.length
    for (const nowMs of [0, 5000]) await log.maintain(nowMs)
    expect(database.committed.length).toBeGreaterThan(from)
    for (let kept = from; kept <= database.committed.length; kept++) {
      const after = await database.afterPowerCut(kept)
      const reopened = await openEmbeddedLog(after, environment, { activeBytes: 1 })
      expect(await fold(reopened)).toEqual(before)
      await reopened.maintain(9000)
      expect(await fold(reopened)).toEqual(before)
    }
  })
})

describe('retention', () => {
  const add = async (timestampMs: number) => {
    const transaction = log.begin()
    transaction.append(p0, makeBatch([{ timestampMs, key: 'k', value: `${timestampMs}` }]))
    await transaction.commit()
  }

  test('leaves times findable, also those that came before younger ones that are gone', async () => {
    for (const time of [100, 900, 300, 500, 2000]) await add(time)
    await log.deleteRecords(p0, 2)
    const at = () =>
      Promise.all([200, 400, 600, 2000, 2001].map(time => log.offsetForTimestamp(p0, time)))
    expect(await at()).toEqual([2, 3, 4, 4, 5])
    await log.close()
    log = await openEmbeddedLog(database, environment, { activeBytes: 1 })
    await add(700)
    expect(await at()).toEqual([2, 3, 4, 4, 6])
  })

  test('keeps no time row of what is gone but one', async () => {
    for (let time = 1; time <= 100; time++) await add(time)
    await log.maintain(1091)
    expect((await log.offsets([p0]))[0].startOffset).toBe(90)
    let rows = 0
    for await (const entries of database.scan(keys.timeRange({ topic: 2, partition: 0 }))) {
      rows += entries.length
    }
    expect(rows).toBe(11)
  })
})
