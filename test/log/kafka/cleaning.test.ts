/** What a broker's own clock and cleaner may take, and how it is read past. */
import { Kafka, logLevel } from 'kafkajs'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { KafkaLog } from '../../../log/kafka/index.ts'
import type { TopicPartition } from '../../../log/port.ts'
import { append, readAll, settled } from '../../conformance/log.ts'
import {
  type KafkaUnderTest,
  quickCompaction,
  startKafka,
  steady,
} from '../../support/kafka/kafka.ts'
import { kafkaIsMissing, START_MS_MAX } from '../../support/kafka/shared.ts'
import { makeBatch } from '../batches.ts'
import { openLog } from './environment.ts'

const DAY_MS = 24 * 60 * 60 * 1000
const WAIT = { timeout: 90_000, interval: 500 }

describe.skipIf(kafkaIsMissing !== undefined)('a broker that cleans all the time', () => {
  let kafka: KafkaUnderTest
  let log: KafkaLog

  beforeAll(async () => {
    kafka = await startKafka({ config: { ...quickCompaction, ...steady } })
  }, START_MS_MAX)
  afterAll(() => kafka?.destroy())
  beforeEach(async () => {
    log = await openLog(kafka.bootstrap)
  })
  afterEach(() => log?.close())

  const appendAt = async (target: TopicPartition, timestampMs: number, value: string) => {
    const transaction = log.begin()
    transaction.append(target, makeBatch([{ key: 'k', value, timestampMs }]))
    await transaction.commit()
  }

  test('no clock deletes records of last year, nor refuses those of next week (law 4)', async () => {
    const kept = { topic: 'kept', partition: 0 }
    const short = { topic: 'short', partition: 0 }
    await log.createTopic(kept.topic, 1)
    await log.createTopic(short.topic, 1, { retentionMs: 1000 })
    for (const target of [kept, short]) await appendAt(target, Date.now() - 365 * DAY_MS, 'old')
    await appendAt(kept, Date.now() + 7 * DAY_MS, 'ahead')
    // The broker's clock is at work: it takes the other topic's records.
    await expect
      .poll(async () => (await log.offsets([short]))[0].startOffset, WAIT)
      .toBeGreaterThan(0)
    expect((await readAll(log, kept)).map(line => line.split('=')[1])).toEqual(['old', 'ahead'])
    expect((await log.offsets([kept]))[0].startOffset).toBe(0)
  })

  test('a compacted topic is read to its end from every offset', async () => {
    const table = { topic: 'table', partition: 0 }
    await log.createTopic(table.topic, 1, { cleanup: 'compact', deleteRetentionMs: 100 })
    const client = new Kafka({ brokers: [kafka.bootstrap], logLevel: logLevel.NOTHING })
    const other = client.producer({
      transactionalId: 'other',
      idempotent: true,
      maxInFlightRequests: 1,
    })
    await other.connect()
    const newest = new Map<string, string>()
    for (let i = 0; i < 30; i++) {
      const [key, value] = [`k${i % 3}`, `${i}`]
      await append(log, table, `${key}=${value}`)
      newest.set(key, value)
      if (i % 10 !== 5) continue
      const transaction = await other.transaction()
      await transaction.send({ topic: table.topic, messages: [{ key, value: 'aborted' }] })
      await transaction.abort()
    }
    await other.disconnect()
    // A segment is closed by the first record after its time.
    const compacted = async () => {
      await append(log, table, 'tick=1')
      return (await readAll(log, table)).length
    }
    await expect.poll(compacted, WAIT).toBeLessThan(15)
    const lines = await readAll(log, table)
    const [{ endOffset }] = await settled(log, table)
    for (const [key, value] of newest) {
      expect(lines.filter(line => line.endsWith(` ${key}=${value}`))).toHaveLength(1)
    }
    expect(lines.join()).not.toContain('aborted')
    // The cleaner may still be at work: two reads are compared, and again if it came between.
    const restFrom = async (offset: number) =>
      (await readAll(log, table)).filter(line => Number(line.split(' ')[0]) >= offset)
    for (let offset = 0; offset <= endOffset; offset++) {
      const compared = async () => [await readAll(log, table, offset, 500), await restFrom(offset)]
      const differs = async () => {
        const [read, rest] = await compared()
        return String(read) === String(rest) ? [] : [read, rest]
      }
      await expect.poll(differs).toEqual([])
    }
  }, 180_000)
})
