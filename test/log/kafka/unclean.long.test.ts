/**
 * An unclean election: a replica that lacks acknowledged records becomes the leader, as only an
 * operator can allow it.
 */
import { Kafka, logLevel } from 'kafkajs'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { KafkaLog } from '../../../log/kafka/index.ts'
import { append, readAll } from '../../conformance/log.ts'
import { type KafkaUnderTest, startKafka } from '../../support/kafka/kafka.ts'
import { kafkaIsMissing, START_MS_MAX } from '../../support/kafka/shared.ts'
import { openLog } from './environment.ts'

describe.skipIf(kafkaIsMissing !== undefined)('an unclean election', () => {
  let kafka: KafkaUnderTest
  let log: KafkaLog

  beforeAll(async () => {
    kafka = await startKafka({ brokers: 3, config: { 'min.insync.replicas': 1 } })
  }, START_MS_MAX)
  afterAll(() => kafka?.destroy())
  afterEach(() => log?.close())

  test('a position that the log no longer reaches is out of range, not its end', async () => {
    const place = { topic: 'shorter', partition: 0 }
    const client = new Kafka({ brokers: kafka.bootstrap.split(','), logLevel: logLevel.NOTHING })
    const admin = client.admin()
    await admin.connect()
    const topic = {
      topic: place.topic,
      replicaAssignment: [{ partition: 0, replicas: [1, 2] }],
      configEntries: [
        { name: 'unclean.leader.election.enable', value: 'true' },
        { name: 'min.insync.replicas', value: '1' },
      ],
    }
    await admin.createTopics({ waitForLeaders: false, topics: [topic], timeout: 30_000 })
    await admin.disconnect()
    log = await openLog(kafka.bootstrap, {
      requestTimeoutMs: 4000,
      connectTimeoutMs: 2000,
      transactionTimeoutMs: 60_000,
    })
    await expect.poll(() => log.describeTopic(place.topic)).toBeDefined()
    await append(log, place, 'k=both')
    await kafka.kill(2)
    await append(log, place, 'k=lost-1', 'k=lost-2')
    expect(await readAll(log, place)).toHaveLength(3)
    const [{ highWatermark: offset }] = await log.offsets([place])
    await kafka.kill(1)
    await kafka.restart(2)
    const leader = () => {
      // It would look again by itself, a minute after it last did.
      log.cluster.staleTopic(place.topic)
      return log.cluster.leader(place).catch(() => -1)
    }
    await expect.poll(leader).toBe(2)
    const request = { ...place, offset, bytesMax: 1e6 }
    const read = async () => (await log.fetch([request], { waitMsMax: 1000 }))[0]
    await expect.poll(read, { timeout: 60_000 }).toMatchObject({ error: 'offset-out-of-range' })
  }, 400_000)
})
