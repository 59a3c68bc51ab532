/** The transactional producer while its broker dies, is slow to end transactions, or gives up. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { LogEnvironment } from '../../../log/port.ts'
import { kafkaIsMissing, ownName, START_MS_MAX } from '../../support/kafka/shared.ts'
import {
  appendOf,
  codeOf,
  environment,
  type ProxiedKafka,
  startBehindProxies,
  Workplace,
} from './producing.ts'

const lateMarkers = { api: 'writeTxnMarkers', on: 'request', fault: 'hold' } as const
const pauseMs = (delayMs: number) => new Promise(resolve => setTimeout(resolve, delayMs))

describe.skipIf(kafkaIsMissing !== undefined)('transactions on a failing broker', () => {
  let proxied: ProxiedKafka
  let kafka: ProxiedKafka['kafka']
  let proxy: ProxiedKafka['proxy']
  let place: Workplace
  let topic: string

  beforeAll(async () => {
    proxied = await startBehindProxies()
    kafka = proxied.kafka
    proxy = proxied.proxy
  }, START_MS_MAX)
  afterAll(() => proxied?.stop())
  beforeEach(async () => {
    place = new Workplace(kafka.bootstrap)
    topic = await place.topic()
  })
  afterEach(async () => {
    proxy.clear()
    proxied.amongBrokers.clear()
    await place.close()
  })

  const producerOn = async (options: Parameters<Workplace['producer']>[1] = {}) =>
    place.producer(await place.cluster(proxy.bootstrap), { timeoutMs: 120_000, ...options })

  test('a broker killed while batches are under way gets them again, once', async () => {
    const producer = await producerOn()
    await producer.transact({ appends: [appendOf(topic, 0, 'before')] })
    const values = Array.from({ length: 20 }, (_, i) => `${i}`)
    const rule = proxy.rule({ api: 'produce', on: 'reply', fault: 'hold', from: 4 })
    const appends = values.map(value => appendOf(topic, 0, value))
    const pending = codeOf(producer.transact({ appends }))
    await rule.hit()
    await kafka.kill()
    proxy.clear()
    await kafka.restart()
    const code = await pending
    expect(['fulfilled', 'KAFKA_TRANSACTION_ABORTED']).toContain(code)
    await producer.transact({ appends: [appendOf(topic, 0, 'after')] })
    const middle = code === 'fulfilled' ? values : []
    expect(await place.read(topic)).toEqual([['before', ...middle, 'after']])
  })

  test('a broker killed while it commits has committed all or nothing', async () => {
    const producer = await producerOn()
    await producer.transact({ appends: [appendOf(topic, 0, 'before')] })
    const rule = proxy.rule({ api: 'endTxn', on: 'reply', fault: 'hold' })
    const pending = codeOf(producer.transact({ appends: [appendOf(topic, 0, 'a', 'b')] }))
    await rule.hit()
    await kafka.kill()
    proxy.clear()
    await kafka.restart()
    // The first EndTxn was carried out, so the repeated one is answered with success.
    expect(await pending).toBe('fulfilled')
    await producer.transact({ appends: [appendOf(topic, 0, 'after')] })
    expect(await place.read(topic)).toEqual([['before', 'a', 'b', 'after']])
  })

  test('fault 9: a broker down for longer than the timeout: aborted, then it goes on', async () => {
    const producer = await producerOn({ timeoutMs: 8000 })
    await producer.transact({ appends: [appendOf(topic, 0, 'before')] })
    await kafka.kill()
    const lost = producer.transact({ appends: [appendOf(topic, 0, 'lost')] })
    expect(await codeOf(lost)).toBe('KAFKA_TRANSACTION_ABORTED')
    await kafka.restart()
    let code: string
    do code = await codeOf(producer.transact({ appends: [appendOf(topic, 0, 'after')] }))
    while (code === 'KAFKA_TRANSACTION_ABORTED')
    expect(code).toBe('fulfilled')
    expect(await place.read(topic)).toEqual([['before', 'after']])
  })

  test('fault 7: a transaction that the coordinator timed out is aborted, the next one goes on', async () => {
    // Its clock and timers run at a tenth: it does not notice how long it has waited.
    const slow: LogEnvironment = {
      ...environment,
      clock: () => environment.clock() / 10,
      schedule: (task, delayMs) => environment.schedule(task, delayMs * 10),
    }
    const cluster = await place.cluster(proxy.bootstrap, 60_000)
    const producer = await place.producer(cluster, { timeoutMs: 6000, environment: slow })
    await producer.transact({ appends: [appendOf(topic, 0, 'before')] })
    const rule = proxy.rule({ api: 'endTxn', on: 'request', fault: { delayMs: 13_000 } })
    const late = producer.transact({ appends: [appendOf(topic, 0, 'late')] })
    await expect(late).rejects.toMatchObject({
      code: 'KAFKA_TRANSACTION_ABORTED',
      details: { reason: expect.stringContaining('INVALID_TXN_STATE') },
    })
    expect(rule.hits).toBe(1)
    await producer.transact({ appends: [appendOf(topic, 0, 'after')] })
    expect(await place.read(topic)).toEqual([['before', 'after']])
  })

  test('the next transaction waits for markers that are late, and none is mixed up', async () => {
    const producer = await producerOn()
    await producer.transact({ appends: [appendOf(topic, 0, 'before')] })
    await place.read(topic)
    const rule = proxied.amongBrokers.rule(lateMarkers)
    await producer.transact({ appends: [appendOf(topic, 0, 'a')] })
    await rule.hit()
    const next = producer.transact({ appends: [appendOf(topic, 0, 'b'), appendOf(topic, 0, 'c')] })
    await pauseMs(500)
    // Refused as long as the markers are not written, and sent again.
    expect(proxy.requests('produce')).toBeGreaterThan(3)
    rule.release()
    await next
    expect(await place.read(topic)).toEqual([['before', 'a', 'b', 'c']])
  })

  test('a producer opened while markers are late waits for them', async () => {
    const transactionalId = ownName('id')
    const producer = await producerOn({ transactionalId })
    await producer.transact({ appends: [appendOf(topic, 0, 'before')] })
    await place.read(topic)
    const rule = proxied.amongBrokers.rule(lateMarkers)
    await producer.transact({ appends: [appendOf(topic, 0, 'a')] })
    await rule.hit()
    const opening = producerOn({ transactionalId })
    await pauseMs(200)
    rule.release()
    await (await opening).transact({ appends: [appendOf(topic, 0, 'b')] })
    expect(await place.read(topic)).toEqual([['before', 'a', 'b']])
  })
})
