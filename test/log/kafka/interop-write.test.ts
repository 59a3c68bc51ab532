/** What the driver writes, read by other clients: kafkajs and Kafka's console consumer. */
import { Kafka, logLevel, Partitioners } from 'kafkajs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { CODECS } from '../../../log/compression.ts'
import type { KafkaLog } from '../../../log/kafka/index.ts'
import { partitionOf } from '../../../log/murmur2.ts'
import { describeOnKafka, ownName } from '../../support/kafka/shared.ts'
import { toolClasses } from '../../support/kafka/tool.ts'
import { makeBatch, type TestRecord } from '../batches.ts'
import { openLog } from './environment.ts'
import { lineOf, readByConsole, readByKafkajs, readByMillrace } from './interop.ts'

const yearAgoMs = Date.UTC(2025, 10, 21)
const filler = 'a crate of pears, '.repeat(40)

/** All that a record may be; `tag` tells one batch's records from another's. */
const recordsOf = (tag: string): readonly Required<TestRecord>[] => [
  { key: `${tag}-1`, value: filler, timestampMs: yearAgoMs, headers: [] },
  { key: null, value: `${tag} without a key`, timestampMs: yearAgoMs + 1, headers: [] },
  { key: `${tag}-1`, value: null, timestampMs: yearAgoMs - 1, headers: [] },
  { key: '', value: '', timestampMs: 0, headers: [] },
  {
    key: 'žluťoučký kůň 🐎',
    value: '{"a":1}',
    timestampMs: yearAgoMs + 2,
    headers: [
      ['ce_id', Buffer.from(tag)],
      ['tag', Buffer.from('one')],
      ['tag', Buffer.from('two')],
      ['kůň', Buffer.alloc(0)],
    ],
  },
]

describeOnKafka('topics that the driver wrote', kafka => {
  let log: KafkaLog
  let topic: string

  beforeEach(async () => {
    log = await openLog(kafka.bootstrap)
    topic = ownName('ours')
  })
  afterEach(() => log.close())

  /** Two batches, so that order is that of batches, too. */
  async function write(codecs: readonly (typeof CODECS)[number][]): Promise<string[][]> {
    const written: string[][] = [[], []]
    await log.createTopic(topic, 2)
    for (const compression of codecs) {
      for (const end of ['commit', 'abort', 'commit'] as const) {
        const transaction = log.begin()
        for (const partition of [0, 1]) {
          const records = recordsOf(`${compression}-${end}-${written[0]!.length}`)
          transaction.append({ topic, partition }, makeBatch(records, { compression }))
          if (end === 'commit') written[partition]!.push(...records.map(lineOf))
        }
        await transaction[end]()
      }
    }
    return written
  }

  test('with every compression, by the console consumer, read_committed', async () => {
    const written = await write(CODECS)
    const records = written.flat().length
    expect(records).toBe(CODECS.length * 20)
    expect((await readByMillrace(log, topic)).codecs.toSorted()).toEqual(CODECS.toSorted())
    expect(await readByConsole(kafka, topic, { partitions: 2, records })).toEqual(written)
  })

  // The others are codecs that kafkajs has not of its own.
  test('with the compressions that kafkajs knows, by kafkajs', async () => {
    const written = await write(['none', 'gzip'])
    expect(await readByKafkajs(kafka, topic, 2)).toEqual(written)
  })
})

describeOnKafka('partitions of keys', kafka => {
  const PARTITIONS = 12
  let log: KafkaLog
  let topic: string

  beforeEach(async () => {
    log = await openLog(kafka.bootstrap)
    topic = ownName('keys')
    await log.createTopic(topic, PARTITIONS)
  })
  afterEach(() => log.close())

  const keys = [
    '',
    ...Array.from(
      { length: 9_999 },
      (_, i) =>
        [
          `order-${i}`,
          `zákazník ${i} 🐎`,
          String.fromCodePoint(0x4e00 + i),
          'k'.repeat(i % 300) + i,
        ][i % 4]!,
    ),
  ]
  /** `partition key` of each, by the function that every sink, exchange and import uses. */
  const ours = keys.map(key => {
    const bytes = Buffer.from(key)
    return `${partitionOf(bytes, 0, bytes.length, PARTITIONS)} ${key}`
  })

  /** The same, by where the records are. */
  async function placed(): Promise<string[]> {
    const { records } = await readByMillrace(log, topic)
    return records.flatMap((all, partition) => all.map(({ key }) => `${partition} ${key}`))
  }

  test('10,000 keys are where the console producer of Java puts them', async () => {
    const { code, stderr } = await kafka.tool(
      toolClasses.consoleProducer,
      [
        `--bootstrap-server=${kafka.bootstrap}`,
        `--topic=${topic}`,
        '--reader-property=parse.key=true',
        '--reader-property=key.separator=|',
      ],
      { input: `${keys.map(key => `${key}|v`).join('\n')}\n` },
    )
    expect(code, stderr).toBe(0)
    expect((await placed()).sort()).toEqual(ours.toSorted())
  })

  test('10,000 keys are where the default partitioner of kafkajs puts them', async () => {
    const client = new Kafka({ brokers: [kafka.bootstrap], logLevel: logLevel.NOTHING })
    const producer = client.producer({ createPartitioner: Partitioners.DefaultPartitioner })
    await producer.connect()
    const messages = keys.map(key => ({ key, value: 'v' }))
    await producer.send({ topic: topic, messages })
    await producer.disconnect()
    expect((await placed()).sort()).toEqual(ours.toSorted())
  })
})
