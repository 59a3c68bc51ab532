/** Brokers that die, hang and come back, under a log that reads and appends all the time. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { MillraceError } from '../../../log/errors.ts'
import type { KafkaLog } from '../../../log/kafka/index.ts'
import type { TopicPartition } from '../../../log/port.ts'
import { append, readAll } from '../../conformance/log.ts'
import { type KafkaUnderTest, startKafka } from '../../support/kafka/kafka.ts'
import { kafkaIsMissing, START_MS_MAX } from '../../support/kafka/shared.ts'
import { pairs } from '../batches.ts'
import { openLog } from './environment.ts'

const textIn = (line: string) => line.slice(line.indexOf(' ') + 1)

/** Appends numbered records in turn, each until it is acknowledged, for as long as it is let. */
class Writer {
  readonly acknowledged: string[] = []
  readonly failures: string[] = []
  /** Nobody was told whether these were committed. */
  readonly unknown: string[] = []
  readonly #done: Promise<void>
  #stopping = false

  constructor(log: KafkaLog, places: readonly TopicPartition[]) {
    this.#done = this.#run(log, places)
  }

  async #run(log: KafkaLog, places: readonly TopicPartition[]): Promise<void> {
    for (let i = 0; !this.#stopping; i++) {
      const text = `k=${i}`
      try {
        await append(log, places[i % places.length], text)
        this.acknowledged.push(text)
      } catch (error) {
        if (!(error instanceof MillraceError) || error.recovery === 'stop') throw error
        this.failures.push(error.code)
        if (error.code === 'KAFKA_OUTCOME_UNKNOWN') this.unknown.push(text)
      }
    }
  }

  /** Resolves when so many more are acknowledged. */
  async more(count: number): Promise<void> {
    const target = this.acknowledged.length + count
    await expect.poll(() => this.acknowledged.length, { timeout: 90_000 }).toBeGreaterThan(target)
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await this.#done
  }
}

/** Reads everything as it comes. */
class Follower {
  readonly texts: string[] = []
  readonly #done: Promise<void>
  #stopping = false

  constructor(log: KafkaLog, places: readonly TopicPartition[]) {
    this.#done = this.#run(log, places)
  }

  async #run(log: KafkaLog, places: readonly TopicPartition[]): Promise<void> {
    const offsets = places.map(() => 0)
    while (!this.#stopping) {
      const requests = places.map((place, i) => ({
        ...place,
        offset: offsets[i],
        bytesMax: 10_000,
      }))
      const responses = await log.fetch(requests, { waitMsMax: 200 })
      for (const [i, { bytes, error, nextOffset }] of responses.entries()) {
        expect(error).toBeUndefined()
        this.texts.push(...pairs(bytes, { fromOffset: offsets[i] }).map(textIn))
        offsets[i] = nextOffset
      }
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await this.#done
  }
}

describe.skipIf(kafkaIsMissing !== undefined)('three brokers', () => {
  let kafka: KafkaUnderTest
  let log: KafkaLog
  let places: readonly TopicPartition[]
  let topics = 0

  beforeAll(async () => {
    kafka = await startKafka({ brokers: 3 })
  }, START_MS_MAX)
  afterAll(() => kafka?.destroy())
  beforeEach(async () => {
    log = await openLog(kafka.bootstrap, { requestTimeoutMs: 8000, connectTimeoutMs: 2000 })
    const topic = `outage-${topics++}`
    await log.createTopic(topic, 3)
    places = [0, 1, 2].map(partition => ({ topic, partition }))
  })
  afterEach(() => log?.close())

  const sorted = (texts: readonly string[]) => [...texts].sort()
  const everything = async () => {
    const lines = await Promise.all(places.map(place => readAll(log, place)))
    return lines.flat().map(textIn)
  }

  /** All that was acknowledged, and what of the rest is there. */
  const expected = async ({ acknowledged, unknown }: Writer) => {
    const there = new Set(await everything())
    return sorted([...acknowledged, ...unknown.filter(text => there.has(text))])
  }

  test('a leader killed is left for the next, and nothing is lost or doubled', async () => {
    const writer = new Writer(log, places)
    const follower = new Follower(log, places)
    await writer.more(20)
    const victim = await log.cluster.leader(places[0])
    await kafka.kill(victim)
    await writer.more(40)
    await kafka.restart(victim)
    await writer.more(20)
    await writer.stop()
    const texts = await expected(writer)
    await expect.poll(() => follower.texts.length).toBeGreaterThanOrEqual(texts.length)
    await follower.stop()
    expect(sorted(follower.texts)).toEqual(texts)
    expect(sorted(await everything())).toEqual(texts)
  }, 240_000)

  test('all brokers away and back: it goes on, nothing is lost or doubled', async () => {
    const writer = new Writer(log, places)
    const follower = new Follower(log, places)
    await writer.more(20)
    await kafka.kill()
    await expect.poll(() => writer.failures.length, { timeout: 60_000 }).toBeGreaterThan(0)
    const requests = places.map(place => ({ ...place, offset: 0, bytesMax: 1000 }))
    await expect
      .poll(async () => (await log.fetch(requests, { waitMsMax: 50 })).map(one => one.pending), {
        timeout: 30_000,
      })
      .toEqual([true, true, true])
    await expect(log.fetch(requests)).rejects.toMatchObject({ code: 'KAFKA_UNREACHABLE' })
    await kafka.restart()
    await writer.more(40)
    await writer.stop()
    const texts = await expected(writer)
    await expect.poll(() => follower.texts.length).toBeGreaterThanOrEqual(texts.length)
    await follower.stop()
    expect(sorted(await everything())).toEqual(texts)
  }, 240_000)

  test('a broker that hangs holds up its own partitions alone, and is gone on with', async () => {
    for (const place of places) await append(log, place, `k=${place.partition}`)
    for (const place of places) expect(await readAll(log, place)).toHaveLength(1)
    const leaders = await Promise.all(places.map(place => log.cluster.leader(place)))
    const coordinator = await log.cluster.coordinator('group', 'any')
    const hung = leaders.findIndex(node => node !== coordinator)
    const requests = places.map(place => ({ ...place, offset: 0, bytesMax: 1000 }))
    kafka.pause(leaders[hung])
    const seen = new Set<number>()
    const others = [0, 1, 2].filter(partition => partition !== hung)
    let wasPending = false
    try {
      for (let i = 0; i < 40 && !others.every(partition => seen.has(partition)); i++) {
        const answers = await log.fetch(requests, { waitMsMax: 500 })
        for (const { partition, bytes } of answers) if (bytes.length > 0) seen.add(partition)
        // In time the others take its partitions over.
        wasPending ||= answers[hung].pending === true
      }
    } finally {
      kafka.resume(leaders[hung])
    }
    expect([...seen]).toEqual(expect.arrayContaining(others))
    expect(wasPending).toBe(true)
    expect(await readAll(log, places[hung])).toHaveLength(1)
  })

  test('a log is closed while its brokers are away, and tells what that ended', async () => {
    await append(log, places[0], 'k=1')
    await kafka.kill()
    try {
      const appended = append(log, places[0], 'k=2').catch(error => error)
      const listed = log.listTopics().catch(error => error)
      await log.close()
      expect(await appended).toBeInstanceOf(MillraceError)
      expect(await listed).toBeInstanceOf(MillraceError)
    } finally {
      await kafka.restart()
    }
  })
})
