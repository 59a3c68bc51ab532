import { afterEach, expect, test } from 'vitest'
import { effects } from '../../cli/effects.ts'
import { EventAppender } from '../../cli/event-appender.ts'
import { eventRecord } from '../../contracts/event-record.ts'
import type { BusinessEvent } from '../../contracts/events.ts'
import { inputTopics } from '../../contracts/topics.ts'
import { type EmbeddedLog, openEmbeddedLog } from '../../log/embedded/index.ts'
import { partitionOf } from '../../log/murmur2.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { decodePosition } from '../../streams/position.ts'

let log: EmbeddedLog
afterEach(() => log.close())

async function openLog(): Promise<EmbeddedLog> {
  log = await openEmbeddedLog(new MemoryDatabase(), effects)
  for (const topic of inputTopics) await log.createTopic(topic, 4)
  return log
}

function cancelled(i: number, reason = 'changed-mind'): BusinessEvent {
  return { type: 'OrderCancelled', orderId: `order-${i}`, reason, cancelledAt: 1_000 + i }
}

const record = (i: number, reason?: string) =>
  eventRecord(cancelled(i, reason), { id: `id-${i}`, source: 'test' })

async function keysOf(topic: string, partition: number): Promise<string[]> {
  const keys: string[] = []
  for (let offset = 0; ; ) {
    const [{ bytes }] = await log.fetch([{ topic, partition, offset, bytesMax: 1 << 20 }])
    const { runs, nextOffset } = decodeBatches(bytes, { fromOffset: offset })
    if (nextOffset === offset) return keys
    offset = nextOffset
    for (const { bytes: all, keyStart, keyEnd, length } of runs) {
      for (let i = 0; i < length; i++) keys.push(all.utf8Slice(keyStart[i]!, keyEnd[i]!))
    }
  }
}

test('events go where a Java producer would put them, in order, and the position covers them', async () => {
  const appender = await EventAppender.open(await openLog())
  const position = await appender.append(Array.from({ length: 100 }, (_, i) => record(i)))
  const wanted: string[][] = [[], [], [], []]
  for (let i = 0; i < 100; i++) {
    const key = Buffer.from(`order-${i}`)
    wanted[partitionOf(key, 0, key.length, 4)]!.push(`order-${i}`)
  }
  for (let partition = 0; partition < 4; partition++) {
    expect(await keysOf('orders', partition)).toEqual(wanted[partition])
  }
  const { incarnation, offsets } = decodePosition(position)
  expect(incarnation).toBe(log.incarnation)
  expect(offsets.orders).toEqual(wanted.map(keys => keys.length))
  expect(offsets.payments).toEqual([0, 0, 0, 0])
})

test('many large events are cut into batches that the log takes', async () => {
  const appender = await EventAppender.open(await openLog())
  const records = Array.from({ length: 12 }, (_, i) => record(i % 3, 'x'.repeat(900_000)))
  await appender.append(records)
  const ranges = await log.offsets([0, 1, 2, 3].map(partition => ({ topic: 'orders', partition })))
  expect(ranges.reduce((sum, range) => sum + range.endOffset, 0)).toBe(12)
})
