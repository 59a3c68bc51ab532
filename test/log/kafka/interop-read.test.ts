/** What other clients write, read by the driver: kafkajs and Kafka's own tools. */
import { CompressionTypes, Kafka, logLevel, type Message, Partitioners } from 'kafkajs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { KafkaLog } from '../../../log/kafka/index.ts'
import { describeOnKafka, ownName } from '../../support/kafka/shared.ts'
import { toolClasses } from '../../support/kafka/tool.ts'
import { openLog } from './environment.ts'
import { lineOf, linesOf, readByConsole, readByMillrace } from './interop.ts'

const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const
const yearAgoMs = Date.UTC(2025, 10, 21)

/** Enough alike that a codec has something to do. */
const filler = 'a basket of apples, '.repeat(40)

describeOnKafka('topics that others wrote', kafka => {
  let log: KafkaLog
  let topic: string

  beforeEach(async () => {
    log = await openLog(kafka.bootstrap)
    topic = ownName('foreign')
    await log.createTopic(topic, 2)
  })
  afterEach(() => log.close())

  const messages: readonly Message[] = [
    { key: 'order-1', value: filler, timestamp: String(yearAgoMs) },
    { key: null, value: 'without a key', timestamp: String(yearAgoMs - 5) },
    { key: '', value: '', timestamp: '0' },
    { key: 'order-1', value: null, timestamp: String(yearAgoMs + 1) },
    { key: 'žluťoučký kůň 🐎', value: Buffer.from([0, 0xff, 0x80, 10]), timestamp: '1' },
    {
      key: 'with headers',
      value: '{"a":1}',
      timestamp: String(yearAgoMs + 2),
      headers: { ce_id: 'a-1', tags: ['one', 'two'], empty: '', bytes: Buffer.from([0xff]) },
    },
  ]
  const messageLine = ({ key = null, value, timestamp, headers = {} }: Message) =>
    lineOf({
      timestampMs: Number(timestamp),
      key,
      value,
      headers: Object.entries(headers).flatMap(([name, values]) =>
        (Array.isArray(values) ? values : [values]).map(one => [name, one] as const),
      ),
    })

  test.each(['None', 'GZIP'] as const)('by kafkajs with compression %s', async name => {
    const client = new Kafka({ brokers: [kafka.bootstrap], logLevel: logLevel.NOTHING })
    const producer = client.producer({ createPartitioner: Partitioners.DefaultPartitioner })
    await producer.connect()
    const placed = messages.map((message, i) => ({ ...message, partition: i % 2 }))
    await producer.send({ topic, messages: placed, compression: CompressionTypes[name] })
    await producer.disconnect()
    const { records, codecs } = await readByMillrace(log, topic)
    expect(codecs).toEqual([name.toLowerCase()])
    expect(linesOf(records)).toEqual(
      [0, 1].map(partition =>
        placed.filter(one => one.partition === partition).map(one => messageLine(one)),
      ),
    )
  })

  test.each(CODECS)('by the console producer, with keys and headers, %s', async codec => {
    const input = [
      `h:1,h:2,ce_id:a-1|order-1|${filler}`,
      'empty:|NULL|no key',
      'NULL|order-2|no headers',
      'h:kůň|žluťoučký 🐎|NULL',
    ]
    const beforeMs = Date.now()
    const { code, stderr } = await kafka.tool(
      toolClasses.consoleProducer,
      [
        `--bootstrap-server=${kafka.bootstrap}`,
        `--topic=${topic}`,
        `--compression-codec=${codec}`,
        '--reader-property=parse.key=true',
        '--reader-property=parse.headers=true',
        '--reader-property=key.separator=|',
        '--reader-property=headers.delimiter=|',
        '--reader-property=null.marker=NULL',
      ],
      { input: `${input.join('\n')}\n` },
    )
    expect(code, stderr).toBe(0)
    const { records, codecs } = await readByMillrace(log, topic)
    expect(codecs).toEqual([codec])
    const all = linesOf(records)
      .flat()
      .map(line => {
        const [time, ...rest] = line.split(' ')
        expect(Number(time)).toBeGreaterThanOrEqual(beforeMs)
        expect(Number(time)).toBeLessThanOrEqual(Date.now())
        return ['now', ...rest].join(' ')
      })
    const written = [
      {
        key: 'order-1',
        value: filler,
        headers: [
          ['h', '1'],
          ['h', '2'],
          ['ce_id', 'a-1'],
        ],
      },
      { key: null, value: 'no key', headers: [['empty', '']] },
      { key: 'order-2', value: 'no headers', headers: [] },
      { key: 'žluťoučký 🐎', value: null, headers: [['h', 'kůň']] },
    ] as const
    const expected = written.map(one => lineOf({ ...one, timestampMs: 0 }).replace('0', 'now'))
    expect(all.sort()).toEqual(expected.sort())
  })

  test('by a transactional producer of Java, as its console consumer reads them', async () => {
    const RECORDS = 20_000
    const { code, stderr } = await kafka.tool(toolClasses.producerPerformance, [
      '--topic',
      topic,
      '--num-records',
      String(RECORDS),
      '--payload-monotonic',
      '--throughput',
      '-1',
      '--bootstrap-server',
      kafka.bootstrap,
      '--transactional-id',
      ownName('java'),
      '--transaction-duration-ms',
      '20',
      '--command-property',
      'compression.type=lz4',
      'batch.size=2000',
    ])
    expect(code, stderr).toBe(0)
    const { records, codecs } = await readByMillrace(log, topic)
    expect(codecs).toEqual(['lz4'])
    expect(linesOf(records)).toEqual(
      await readByConsole(kafka, topic, { partitions: 2, records: RECORDS }),
    )
    const values = records.flat().map(({ value }) => Number(value))
    expect(values.sort((a, b) => a - b)).toEqual(Array.from({ length: RECORDS }, (_, i) => i))
  })
})
