/**
 * Topics as an independent client sees them: kafkajs, read_committed. It reads to a record that is
 * written for this, so it returns only once no transaction holds anything back.
 */
import { randomBytes } from 'node:crypto'
import { Kafka, logLevel } from 'kafkajs'

export interface CommittedRecord {
  readonly partition: number
  readonly offset: number
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly timestampMs: number
  /** kafkajs puts headers of one name together. */
  readonly headers: readonly (readonly [name: string, value: Buffer | string | undefined])[]
}

const END = 'end-of-reading-'

/** Records by topic, each partition's in order. Rejects when it takes longer than `waitMsMax`. */
export async function readCommitted(
  bootstrap: string,
  topics: readonly string[],
  waitMsMax = 60_000,
): Promise<ReadonlyMap<string, readonly CommittedRecord[]>> {
  const kafka = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.NOTHING })
  const id = randomBytes(6).toString('hex')
  const end = END + id
  const open = await writeEnds(kafka, topics, end)
  const records = new Map(topics.map(topic => [topic, [] as CommittedRecord[]]))
  const consumer = kafka.consumer({ groupId: `reader-${id}`, maxWaitTimeInMs: 100 })
  await consumer.connect()
  // A consumer whose session ended reads again what it has read.
  const offsets = new Map<string, number>()
  let timer: NodeJS.Timeout | undefined
  try {
    await consumer.subscribe({ topics: [...topics], fromBeginning: true })
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(() => {
        const left = [...open].join(', ')
        reject(new Error(`a read_committed consumer does not get to the end of ${left}`))
      }, waitMsMax)
      const eachMessage = async ({ topic, partition, message }: EachMessage) => {
        const { key, value, headers = {} } = message
        const place = `${topic}/${partition}`
        const offset = Number(message.offset)
        if (offset <= (offsets.get(place) ?? -1)) return
        offsets.set(place, offset)
        if (String(key) === end) {
          open.delete(place)
          if (open.size === 0) resolve()
        } else if (!String(key).startsWith(END)) {
          records.get(topic)!.push({
            partition,
            offset,
            key,
            value,
            timestampMs: Number(message.timestamp),
            headers: Object.entries(headers).flatMap(([name, values]) =>
              (Array.isArray(values) ? values : [values]).map(one => [name, one] as const),
            ),
          })
        }
      }
      consumer.run({ eachMessage }).catch(reject)
    })
    return records
  } finally {
    clearTimeout(timer)
    await consumer.disconnect()
    const admin = kafka.admin()
    await admin.connect()
    await admin.deleteGroups([`reader-${id}`]).catch(() => {})
    await admin.disconnect()
  }
}

type EachMessage = import('kafkajs').EachMessagePayload

/** Writes the record to read to behind every partition; resolves with these. */
async function writeEnds(
  kafka: Kafka,
  topics: readonly string[],
  end: string,
): Promise<Set<string>> {
  const admin = kafka.admin()
  const producer = kafka.producer()
  await Promise.all([admin.connect(), producer.connect()])
  try {
    const metadata = await admin.fetchTopicMetadata({ topics: [...topics] })
    const partitions = metadata.topics.flatMap(({ name, partitions: all }) =>
      all.map(({ partitionId }) => ({ topic: name, partition: partitionId })),
    )
    await producer.sendBatch({
      topicMessages: topics.map(topic => ({
        topic,
        messages: partitions
          .filter(one => one.topic === topic)
          .map(({ partition }) => ({ partition, key: end, value: end })),
      })),
    })
    return new Set(partitions.map(({ topic, partition }) => `${topic}/${partition}`))
  } finally {
    await Promise.all([admin.disconnect(), producer.disconnect()])
  }
}
