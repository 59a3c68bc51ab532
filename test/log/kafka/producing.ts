/** What tests of the transactional producer share: batches, topics, an independent reader. */
import { randomBytes } from 'node:crypto'
import { type EachMessagePayload, Kafka, logLevel } from 'kafkajs'
import { Cluster, isUnreachable } from '../../../log/kafka/cluster.ts'
import { ErrorCode } from '../../../log/kafka/error-codes.ts'
import { TransactionalProducer } from '../../../log/kafka/producer.ts'
import { defineApi } from '../../../log/kafka/wire.ts'
import type { LogEnvironment, TopicPartition } from '../../../log/port.ts'
import { RecordBatchBuilder } from '../../../log/record-batch-builder.ts'
import { type KafkaUnderTest, startKafka } from '../../support/kafka/kafka.ts'
import { KafkaProxy } from '../../support/kafka-proxy.ts'
import { keepablePort } from '../../support/ports.ts'

/** A busy machine may need several tries, or one long one. */
const CONNECT_MS_MAX = 60_000
const PATIENT_MS = 15_000

export const environment: LogEnvironment = {
  clock: () => performance.now(),
  schedule(task, delayMs) {
    const timer = setTimeout(task, delayMs)
    return () => clearTimeout(timer)
  },
  randomBytes,
}

/** A name that nothing else uses. Not that of the harness, which belongs to vitest. */
function ownName(stem: string): string {
  return `${stem}-${randomBytes(4).toString('hex')}`
}

export interface ProxiedKafka {
  readonly kafka: KafkaUnderTest
  /** Before the listener for clients. */
  readonly proxy: KafkaProxy
  /** Before what the broker asks of itself: markers of transactions, enrolments. */
  readonly amongBrokers: KafkaProxy
  stop(): Promise<void>
}

/** A broker of the caller's own, to kill, that others and itself reach through proxies alone. */
export async function startBehindProxies(): Promise<ProxiedKafka> {
  const port = await keepablePort()
  const amongBrokers = await KafkaProxy.start(`127.0.0.1:${port}`)
  const proxy = await KafkaProxy.start('127.0.0.1:0')
  const kafka = await startKafka({
    port,
    listeners: { CLIENT: 'PLAINTEXT' },
    config: {
      'advertised.listeners': `PLAINTEXT://${amongBrokers.bootstrap},CLIENT://${proxy.bootstrap}`,
      'transaction.abort.timed.out.transaction.cleanup.interval.ms': 500,
    },
  })
  proxy.retarget(kafka.address('CLIENT'))
  const stop = async () => {
    await kafka.destroy()
    await Promise.all([proxy.close(), amongBrokers.close()])
  }
  return { kafka, proxy, amongBrokers, stop }
}

/** One batch with a record for each value. */
export function batchOf(...values: readonly string[]): Buffer {
  const builder = new RecordBatchBuilder()
  for (const value of values) {
    const bytes = Buffer.from(value)
    builder.append(1_700_000_000_000, null, { bytes, start: 0, end: bytes.length })
  }
  return builder.finish()
}

export function appendOf(topic: string, partition: number, ...values: readonly string[]) {
  return { target: { topic, partition }, batch: batchOf(...values) }
}

/** OffsetFetch v9 with requireStable: the code and the offset of one partition. */
const stableOffset = defineApi({
  key: 9,
  version: 9,
  encode(writer, group: string, { topic, partition }: TopicPartition) {
    writer.structs([group], () => {
      writer.string(group).nullableString(null).int32(-1)
      writer.structs([topic], () => {
        writer.string(topic).array([partition], one => writer.int32(one))
      })
    })
    writer.boolean(true).tags()
  },
  decode(reader): readonly [code: number, offset: number, metadata: string] {
    const codes: number[] = []
    let offset = -1
    let metadata = ''
    reader.int32()
    reader.structs(() => {
      reader.string()
      reader.structs(() => {
        reader.string()
        reader.structs(() => {
          reader.int32()
          offset = reader.int64()
          reader.int32()
          metadata = reader.string()
          codes.push(reader.int16())
        })
      })
      codes.push(reader.int16())
    })
    reader.tags()
    return [codes.find(code => code !== 0) ?? 0, offset, metadata]
  },
})

/** What a new owner of a partition would go on from: `offset metadata`, or the error's number. */
export async function fetchStable(
  cluster: Cluster,
  group: string,
  target: TopicPartition,
): Promise<string> {
  const node = await cluster.coordinator('group', group)
  const [code, offset, metadata] = await cluster.call(node, 'fetch', stableOffset, group, target)
  return code === 0 ? `${offset} ${metadata}` : `error ${code}`
}

export interface ReadRecord {
  readonly offset: number
  readonly value: string
}

/** What is open at the end of a test is closed after it. */
export class Workplace {
  readonly bootstrap: string
  readonly #kafkajs: Kafka
  readonly #open: { close(): Promise<void> }[] = []

  constructor(bootstrap: string) {
    this.bootstrap = bootstrap
    this.#kafkajs = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.NOTHING })
  }

  /** Lost answers are noticed after a second, so that tests of them are short. */
  async cluster(bootstrap = this.bootstrap, requestTimeoutMs = 1000): Promise<Cluster> {
    const untilMs = performance.now() + CONNECT_MS_MAX
    for (;;) {
      try {
        const options = { bootstrap: bootstrap.split(','), environment, requestTimeoutMs }
        const cluster = await Cluster.connect(options)
        this.#open.unshift(cluster)
        return cluster
      } catch (error) {
        if (!isUnreachable(error) || performance.now() > untilMs) throw error
      }
    }
  }

  async producer(
    cluster: Cluster,
    options: { transactionalId?: string; timeoutMs?: number; environment?: LogEnvironment } = {},
  ): Promise<TransactionalProducer> {
    const { transactionalId = ownName('producer'), ...rest } = options
    const producer = await TransactionalProducer.open({
      cluster,
      transactionalId,
      environment,
      ...rest,
    })
    this.#open.unshift(producer)
    return producer
  }

  async topic(partitions = 1, configs: Readonly<Record<string, string>> = {}): Promise<string> {
    const topic = ownName('produced')
    const admin = this.#kafkajs.admin()
    await admin.connect()
    const entries = Object.entries({ 'retention.ms': '-1', ...configs })
    const configEntries = entries.map(([name, value]) => ({ name, value }))
    // kafkajs' own wait fails when the topic is not there at its first look.
    const topics = [{ topic, numPartitions: partitions, configEntries }]
    await admin.createTopics({ waitForLeaders: false, topics, timeout: 30_000 })
    for (;;) {
      const found = await admin.fetchTopicMetadata({ topics: [topic] }).catch(() => undefined)
      if (found?.topics[0]?.partitions.length === partitions) break
    }
    await admin.disconnect()
    return topic
  }

  /** A classic member of the group, until the end of the test. */
  async member(groupId: string, topic: string): Promise<void> {
    const consumer = this.#kafkajs.consumer({ groupId, maxWaitTimeInMs: 50 })
    this.#open.unshift({ close: () => consumer.disconnect() })
    await consumer.connect()
    await consumer.subscribe({ topic })
    const joined = new Promise(resolve => consumer.on(consumer.events.GROUP_JOIN, resolve))
    await consumer.run({ eachMessage: async () => {} })
    await joined
  }

  /** What the group has committed, as `offset metadata`, once no transaction holds it. */
  async committed(group: string, target: TopicPartition): Promise<string> {
    const cluster = await this.cluster(this.bootstrap, PATIENT_MS)
    for (;;) {
      const seen = await fetchStable(cluster, group, target)
      if (seen !== `error ${ErrorCode.UNSTABLE_OFFSET_COMMIT}`) return seen
    }
  }

  /** The values of `records`, by partition. */
  async read(topic: string, partitions = 1): Promise<readonly (readonly string[])[]> {
    const records = await this.records(topic, partitions)
    return records.map(ofPartition => ofPartition.map(({ value }) => value))
  }

  /**
   * What a read_committed consumer of kafkajs sees, by partition. It reads to a record written for
   * this, so it returns only when no transaction is open.
   */
  async records(topic: string, partitions = 1): Promise<readonly (readonly ReadRecord[])[]> {
    const end = ownName('end')
    const writer = this.#kafkajs.producer()
    await writer.connect()
    const all = Array.from({ length: partitions }, (_, partition) => partition)
    await writer.send({ topic, messages: all.map(partition => ({ partition, value: end })) })
    await writer.disconnect()
    const records: ReadRecord[][] = all.map(() => [])
    const offsets = all.map(() => -1)
    let left = partitions
    const consumer = this.#kafkajs.consumer({ groupId: ownName('reader'), maxWaitTimeInMs: 50 })
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await new Promise<void>((resolve, reject) => {
      const eachMessage = async ({ partition, message }: EachMessagePayload) => {
        const value = String(message.value)
        const offset = Number(message.offset)
        // A consumer whose session ended reads again what it has read.
        if (offset <= offsets[partition]!) return
        offsets[partition] = offset
        // Ends of earlier calls are no records of the test.
        if (!/^end-[0-9a-f]{8}$/.test(value)) {
          records[partition]!.push({ offset, value })
        } else if (value === end && --left === 0) resolve()
      }
      consumer.run({ eachMessage }).catch(reject)
    })
    await consumer.disconnect()
    return records
  }

  async close(): Promise<void> {
    for (const one of this.#open.splice(0)) await one.close()
  }
}

/** The code of what a promise rejects with; `fulfilled` when it does not. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
    return 'fulfilled'
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    return code ?? message
  }
}
