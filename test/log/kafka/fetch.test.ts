/** Reading committed records from a broker, beside transactions of an independent client. */
import { Kafka, logLevel, type Producer } from 'kafkajs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { KafkaLog } from '../../../log/kafka/index.ts'
import type { LogEnvironment, TopicPartition } from '../../../log/port.ts'
import { MemoryDatabase } from '../../../state/memory-database.ts'
import { restoreRows } from '../../../state/restore.ts'
import { append, readAll, settled } from '../../conformance/log.ts'
import { describeOnKafka, ownName } from '../../support/kafka/shared.ts'
import { KafkaProxy } from '../../support/kafka-proxy.ts'
import { pairs } from '../batches.ts'
import { environment, openLog } from './environment.ts'

const valueIn = (line: string) => line.slice(line.indexOf('=') + 1)

describeOnKafka('fetch from Kafka', kafka => {
  let log: KafkaLog
  let other: Producer
  let place: TopicPartition

  beforeEach(async () => {
    log = await openLog(kafka.bootstrap)
    place = { topic: ownName('fetch'), partition: 0 }
    await log.createTopic(place.topic, 2)
    const client = new Kafka({ brokers: [kafka.bootstrap], logLevel: logLevel.NOTHING })
    other = client.producer({
      transactionalId: ownName('other'),
      idempotent: true,
      maxInFlightRequests: 1,
      retry: { initialRetryTime: 10, maxRetryTime: 500, retries: 100 },
    })
    await other.connect()
  })
  afterEach(async () => {
    await other.disconnect()
    await log.close()
  })

  const message = (value: string) => ({ key: 'k', value, partition: 0 })
  const send = async (values: readonly string[], end: 'commit' | 'abort') => {
    const transaction = await other.transaction()
    for (const value of values) {
      await transaction.send({ topic: place.topic, messages: [message(value)] })
    }
    await transaction[end]()
  }

  test('of several transactions of one producer only the committed ones are read', async () => {
    await send(['a1'], 'abort')
    await send(['a2'], 'abort')
    await send(['c1'], 'commit')
    await send(['a3', 'a4'], 'abort')
    await send(['c2'], 'commit')
    await send(['a5'], 'abort')
    for (const bytesMax of [1, 100, 1e6]) {
      expect((await readAll(log, place, 0, bytesMax)).map(valueIn)).toEqual(['c1', 'c2'])
    }
  })

  test('an aborted transaction larger than an answer is passed without a record of it', async () => {
    const large = 'x'.repeat(10_000)
    await send(
      Array.from({ length: 12 }, (_, i) => `a${i}${large}`),
      'abort',
    )
    await send(['c'], 'commit')
    const [{ endOffset }] = await settled(log, place)
    let answers = 0
    const seen: string[] = []
    for (let offset = 0; offset < endOffset; answers++) {
      const [response] = await log.fetch([{ ...place, offset, bytesMax: 30_000 }])
      seen.push(...pairs(response.bytes, { fromOffset: offset }))
      offset = response.nextOffset
    }
    expect(answers).toBeGreaterThan(3)
    expect(seen.map(valueIn)).toEqual(['c'])
  })

  test('a log that holds nothing but an aborted transaction is read to its end', async () => {
    await send(['a1', 'a2'], 'abort')
    const [{ endOffset }] = await settled(log, place)
    const [response] = await log.fetch([{ ...place, offset: 0, bytesMax: 1000 }])
    const bytes = Buffer.alloc(0)
    expect(response).toMatchObject({ bytes, nextOffset: endOffset, endOffset })
    expect(endOffset).toBe(3)
  })

  test('an open transaction holds readers of its partition, and nobody else', async () => {
    await append(log, place, 'k=before')
    const [{ endOffset }] = await settled(log, place)
    const transaction = await other.transaction()
    await transaction.send({ topic: place.topic, messages: [message('open')] })
    await append(log, place, 'k=after')
    const beside = { ...place, partition: 1 }
    await append(log, beside, 'k=beside')
    expect((await readAll(log, beside)).map(valueIn)).toEqual(['beside'])
    const [range] = await log.offsets([place])
    expect(range.endOffset).toBe(endOffset)
    expect(range.highWatermark).toBeGreaterThan(endOffset + 1)
    const request = { ...place, offset: endOffset, bytesMax: 1000 }
    const held = async () => (await log.fetch([request], { waitMsMax: 50 }))[0]
    const nothing = { bytes: Buffer.alloc(0), nextOffset: endOffset, endOffset }
    await expect.poll(held).toMatchObject(nothing)
    const waiting = log.fetch([request], { waitMsMax: 30_000 })
    await transaction.commit()
    expect(pairs((await waiting)[0].bytes).map(valueIn)).toContain('open')
    expect((await readAll(log, place)).map(valueIn)).toEqual(['before', 'open', 'after'])
  })

  test('a restore waits for what was in the log when it began and is committed later', async () => {
    await append(log, place, 'a=1')
    await settled(log, place)
    const transaction = await other.transaction()
    await transaction.send({ topic: place.topic, messages: [{ ...message('2'), key: 'b' }] })
    const database = new MemoryDatabase()
    const store = { name: 's', partition: 0 }
    const positions: number[] = []
    const restored = restoreRows({
      store,
      log,
      changelog: place,
      database,
      onProgress: ({ position }) => positions.push(position),
    })
    await expect.poll(() => positions.length, { timeout: 30_000 }).toBeGreaterThan(1)
    await transaction.commit()
    await restored
    const rows: string[] = []
    for await (const entries of database.scan({ gte: Buffer.alloc(0), lt: Buffer.from([255]) })) {
      rows.push(...entries.map(({ value }) => value.toString()))
    }
    expect(rows).toContain('1')
    expect(rows).toContain('2')
  })

  test('a batch larger than its share is given whole, and no partition starves', async () => {
    const large = 'x'.repeat(200_000)
    const targets = [place, { ...place, partition: 1 }]
    for (let i = 0; i < 4; i++) {
      for (const target of targets) await append(log, target, `k=${large}`, 'k=end')
    }
    await settled(log, ...targets)
    const offsets = [0, 0]
    const seen = [0, 0]
    const read = async (waitMsMax: number) => {
      const requests = targets.map((target, i) => ({ ...target, offset: offsets[i], bytesMax: 99 }))
      for (const [i, response] of (await log.fetch(requests, { waitMsMax })).entries()) {
        seen[i] += pairs(response.bytes, { fromOffset: offsets[i] }).length
        offsets[i] = response.nextOffset
      }
    }
    // A call that does not wait is answered for all, one that waits returns with the first.
    await read(0)
    expect(seen).toEqual([2, 2])
    while (seen.some(records => records < 8)) {
      await read(5000)
      expect(Math.abs(seen[0] - seen[1])).toBeLessThanOrEqual(2)
    }
  })

  test('a poll that was left behind does not hold up a call for other partitions', async () => {
    const proxy = await KafkaProxy.start(kafka.bootstrap)
    // Else the poll would be given up in time, and its connection free again.
    const reader = await openLog(proxy.bootstrap, { requestTimeoutMs: 120_000 })
    try {
      const beside = { ...place, partition: 1 }
      await append(log, beside, 'k=beside')
      await settled(log, beside)
      const held = proxy.rule({ api: 'fetch', on: 'reply', fault: 'hold' })
      const stop = new AbortController()
      const options = { waitMsMax: 30_000, signal: stop.signal }
      const left = reader.fetch([{ ...place, offset: 0, bytesMax: 1000 }], options)
      await held.hit()
      stop.abort()
      expect(await left).toMatchObject([{ pending: true }])
      expect(await readAll(reader, beside)).toEqual(['0 k=beside'])
      held.release()
    } finally {
      await reader.close()
      await proxy.close()
    }
  })

  test('what a poll brings after its call was over is given to the next call', async () => {
    const proxy = await KafkaProxy.start(kafka.bootstrap)
    const reader = await openLog(proxy.bootstrap)
    try {
      await append(log, place, 'k=late')
      await settled(log, place)
      const held = proxy.rule({ api: 'fetch', on: 'reply', fault: 'hold' })
      const request = { ...place, offset: 0, bytesMax: 1000 }
      const stop = new AbortController()
      const left = reader.fetch([request], { waitMsMax: 30_000, signal: stop.signal })
      await held.hit()
      stop.abort()
      await left
      const before = proxy.requests('fetch')
      held.release()
      // It has arrived by then, or is joined on its way.
      await new Promise(resolve => setTimeout(resolve, 200))
      const [next] = await reader.fetch([request], { waitMsMax: 30_000 })
      expect(pairs(next.bytes)).toEqual(['0 k=late'])
      expect(proxy.requests('fetch')).toBe(before)
    } finally {
      await reader.close()
      await proxy.close()
    }
  })

  test('a log that was closed leaves no timer behind', async () => {
    const timers = new Set<number>()
    let timer = 0
    const counted: LogEnvironment = {
      ...environment,
      schedule(task, delayMs) {
        const id = timer++
        timers.add(id)
        const cancel = environment.schedule(() => {
          timers.delete(id)
          task()
        }, delayMs)
        return () => {
          timers.delete(id)
          cancel()
        }
      },
    }
    const reader = await openLog(kafka.bootstrap, { environment: counted })
    await append(reader, place, 'k=1')
    await readAll(reader, place)
    const waiting = reader.fetch([{ ...place, partition: 1, offset: 0, bytesMax: 1 }], {
      waitMsMax: 30_000,
    })
    const refused = expect(waiting).rejects.toMatchObject({ code: 'LOG_CLOSED' })
    await reader.close()
    await refused
    expect([timer > 0, timers.size]).toEqual([true, 0])
  })
})
