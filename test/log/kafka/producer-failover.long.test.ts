/** The transactional producer on three brokers, of which the one it needs dies. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Cluster } from '../../../log/kafka/cluster.ts'
import { type KafkaUnderTest, startKafka } from '../../support/kafka/kafka.ts'
import { kafkaIsMissing, ownName, START_MS_MAX } from '../../support/kafka/shared.ts'
import { appendOf, codeOf, Workplace } from './producing.ts'

describe.skipIf(kafkaIsMissing !== undefined)('transactions on three brokers', () => {
  let kafka: KafkaUnderTest
  let place: Workplace
  let cluster: Cluster
  let topic: string

  beforeAll(async () => {
    kafka = await startKafka({ brokers: 3 })
  }, START_MS_MAX)
  afterAll(() => kafka?.destroy())
  beforeEach(async () => {
    place = new Workplace(kafka.bootstrap)
    cluster = await place.cluster(kafka.bootstrap, 3000)
    topic = await place.topic(3)
  })
  afterEach(() => place.close())

  const values = Array.from({ length: 600 }, (_, i) => `${i}`)
  const expected = [0, 1, 2].map(partition => values.filter((_, i) => i % 3 === partition))

  test('batches whose leader dies go to the next leader, in order and once', async () => {
    const producer = await place.producer(cluster, { timeoutMs: 120_000 })
    await producer.transact({ appends: [0, 1, 2].map(one => appendOf(topic, one, 'before')) })
    const leader = await cluster.leader({ topic, partition: 0 })
    const appends = values.map((value, i) => appendOf(topic, i % 3, value))
    const pending = producer.transact({ appends })
    await kafka.kill(leader)
    const receipts = await pending
    expect(receipts).toHaveLength(values.length)
    expect(await cluster.leader({ topic, partition: 0 })).not.toBe(leader)
    await kafka.restart(leader)
    expect(await place.read(topic, 3)).toEqual(expected.map(one => ['before', ...one]))
  }, 240_000)

  test('a commit whose coordinator dies is carried out by the next coordinator', async () => {
    const transactionalId = ownName('id')
    const producer = await place.producer(cluster, { transactionalId, timeoutMs: 120_000 })
    await producer.transact({ appends: [appendOf(topic, 0, 'before')] })
    const coordinator = await cluster.coordinator('transaction', transactionalId)
    const codes: string[] = []
    const killed = kafka.kill(coordinator)
    for (let i = 0; i < 20; i++) {
      const pending = producer.transact({ appends: [appendOf(topic, i % 3, `${i}`)] })
      codes.push(await codeOf(pending))
    }
    await killed
    expect(codes).toEqual(codes.map(() => 'fulfilled'))
    expect(await cluster.coordinator('transaction', transactionalId)).not.toBe(coordinator)
    await kafka.restart(coordinator)
    const written = Array.from({ length: 20 }, (_, i) => i)
    const wanted = [0, 1, 2].map(one => written.filter(i => i % 3 === one).map(String))
    expect(await place.read(topic, 3)).toEqual([['before', ...wanted[0]!], wanted[1], wanted[2]])
  }, 240_000)
})
