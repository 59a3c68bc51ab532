/**
 * One consumer over one topic, as a process: `consume.ts JOB`, a JSON of type ConsumeJob. All read
 * read_committed, with the same limits of bytes, commit nothing, and look at every value's length.
 * Counted from having the partitions to the last record; one line of JSON on stdout.
 */
import { createRequire } from 'node:module'
import { Consumer } from '@platformatic/kafka'
import { Kafka, logLevel } from 'kafkajs'
import { openKafkaLog } from '../../log/kafka/index.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { environment } from '../environment.ts'
import type { ConsumeJob } from './jobs.ts'
import { Watch } from './watch.ts'

const FETCH_BYTES = 1 << 20
const WAIT_MS = 1_000

async function millrace({ bootstrap, topic, records }: ConsumeJob, watch: Watch): Promise<void> {
  const log = await openKafkaLog({ bootstrap: [bootstrap], environment })
  const { partitions } = (await log.describeTopic(topic))!
  const wanted = Array.from({ length: partitions }, (_, partition) => ({
    topic,
    partition,
    offset: 0,
    bytesMax: FETCH_BYTES,
  }))
  // As the engine does it: the next fetch is under way while the last one is decoded.
  const fetch = () => log.fetch(wanted, { waitMsMax: WAIT_MS })
  watch.start()
  let fetching = fetch()
  while (watch.records < records) {
    const responses = await fetching
    const froms = wanted.map(({ offset }) => offset)
    for (const { partition, nextOffset } of responses) wanted[partition]!.offset = nextOffset
    const isOver = responses.every(one => one.nextOffset >= one.endOffset && !one.pending)
    if (!isOver) fetching = fetch()
    for (const { bytes, partition } of responses) {
      const { runs } = decodeBatches(bytes, { fromOffset: froms[partition]! })
      for (const { length, valueStart, valueEnd } of runs) {
        let sum = 0
        for (let i = 0; i < length; i++) sum += valueEnd[i]! - valueStart[i]!
        watch.add(length, sum)
      }
    }
    if (isOver) break
  }
  watch.stop()
  await log.close()
}

async function kafkajs({ bootstrap, topic, records }: ConsumeJob, watch: Watch): Promise<void> {
  const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.ERROR })
  const consumer = kafka.consumer({
    groupId: `bench-${process.pid}`,
    maxBytesPerPartition: FETCH_BYTES,
    maxWaitTimeInMs: WAIT_MS,
  })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  consumer.on(consumer.events.GROUP_JOIN, () => watch.start())
  await new Promise<void>((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
    consumer
      .run({
        autoCommit: false,
        eachBatch: async ({ batch: { messages } }) => {
          watch.add(messages.length, lengths(messages))
          if (watch.records >= records) resolve()
        },
      })
      .catch(reject)
  })
  watch.stop()
  await consumer.disconnect()
}

async function platformatic(
  { bootstrap, topic, records }: ConsumeJob,
  watch: Watch,
): Promise<void> {
  const consumer = new Consumer({
    bootstrapBrokers: [bootstrap],
    clientId: 'bench',
    groupId: `bench-${process.pid}`,
    maxBytesPerPartition: FETCH_BYTES,
    maxWaitTime: WAIT_MS,
    autocommit: false,
  })
  let started = false
  consumer.on('consumer:group:join', () => {
    if (!started) watch.start()
    started = true
  })
  const stream = await consumer.consume({ topics: [topic], mode: 'earliest' })
  await new Promise<void>((resolve, reject) => {
    stream.on('error', reject)
    stream.on('data', ({ value }) => {
      watch.add(1, value?.length ?? 0)
      if (watch.records >= records) resolve()
    })
  })
  watch.stop()
  await consumer.close(true)
}

interface ConfluentConsumer {
  connect(): Promise<void>
  subscribe(topics: { topic: string }): Promise<void>
  run(config: {
    eachBatch: (payload: { batch: { messages: readonly Message[] } }) => Promise<void>
  }): Promise<void>
  disconnect(): Promise<void>
}

interface Confluent {
  readonly KafkaJS: {
    readonly Kafka: new (
      config: object,
    ) => {
      consumer(config: object): ConfluentConsumer
    }
  }
}

/** Of the folder it was installed into. */
async function confluent(job: ConsumeJob, watch: Watch): Promise<void> {
  const { bootstrap, topic, records, folder } = job
  const load = createRequire(`${folder}/package.json`)
  const { KafkaJS } = load('@confluentinc/kafka-javascript') as Confluent
  const kafka = new KafkaJS.Kafka({ 'bootstrap.servers': bootstrap, log_level: 3 })
  const consumer = kafka.consumer({
    'group.id': `bench-${process.pid}`,
    'auto.offset.reset': 'earliest',
    'enable.auto.commit': false,
    'max.partition.fetch.bytes': FETCH_BYTES,
    'fetch.wait.max.ms': WAIT_MS,
    rebalance_cb: () => {
      if (watch.records === 0) watch.start()
    },
  })
  await consumer.connect()
  await consumer.subscribe({ topic })
  await new Promise<void>((resolve, reject) => {
    const eachBatch = async ({
      batch: { messages },
    }: {
      batch: { messages: readonly Message[] }
    }) => {
      watch.add(messages.length, lengths(messages))
      if (watch.records >= records) resolve()
    }
    consumer.run({ eachBatch }).catch(reject)
  })
  watch.stop()
  await consumer.disconnect()
}

interface Message {
  readonly value: Buffer | null
}

function lengths(messages: readonly Message[]): number {
  let bytes = 0
  for (const { value } of messages) bytes += value?.length ?? 0
  return bytes
}

const job = JSON.parse(process.argv[2]!) as ConsumeJob
const watch = new Watch()
await { millrace, kafkajs, platformatic, confluent }[job.contender](job, watch)
watch.tell()
process.exit(0)
