/** Topics that others made, set or deleted otherwise than an application needs them. */
import { type Admin, ConfigResourceTypes, Kafka, logLevel, Partitioners } from 'kafkajs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { json, Topology, text, textKey } from '../../../streams/index.ts'
import { type Application, startApplication } from '../../support/kafka/application.ts'
import { describeOnKafka, ownName } from '../../support/kafka/shared.ts'
import { toolClasses } from '../../support/kafka/tool.ts'
import { makeBatch } from '../batches.ts'
import { openLog } from './environment.ts'
import { readByMillrace } from './interop.ts'

/** A re-key, a store of rows and one of blocks. */
function topologyOf(application: string): Topology {
  const topology = new Topology(application)
  const options = { key: textKey(), value: json<number>() }
  const events = topology.stream(`${application}-events`, options)
  events.groupBy(String, { name: 'by-value', key: textKey() }).count({ name: 'counts' })
  events.deduplicate({ name: 'seen', id: { header: 'ce_id' }, ttlMs: 1000 })
  return topology
}

describeOnKafka('topics that others made', kafka => {
  const closing: (() => Promise<unknown>)[] = []
  let admin: Admin
  let application: string

  beforeEach(async () => {
    application = ownName('made')
    admin = new Kafka({ brokers: [kafka.bootstrap], logLevel: logLevel.NOTHING }).admin()
    await admin.connect()
  })
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
    await admin.disconnect()
  })

  async function start(): Promise<Application> {
    const running = await startApplication({
      bootstrap: kafka.bootstrap,
      topology: topologyOf(application),
      settings: { createPartitions: 2 },
      member: { memberId: 'member-one' },
    })
    closing.push(() => running.stop())
    return running
  }

  const runs = ({ engine }: Application) => expect.poll(() => engine.state).toBe('running')

  /** These settings, and the broker's defaults for all others. */
  /** Resolves once the broker tells the settings, which may be after it was answered. */
  async function configure(topic: string, settings: Readonly<Record<string, string>>) {
    const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }))
    const type = ConfigResourceTypes.TOPIC
    const resources = [{ type, name: topic, configEntries }]
    await admin.alterConfigs({ validateOnly: false, resources })
    const told = async () => {
      const configNames = Object.keys(settings)
      const found = await admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type, name: topic, configNames }],
      })
      const [{ configEntries: entries } = { configEntries: [] }] = found.resources
      return Object.fromEntries(entries.map(one => [one.configName, one.configValue]))
    }
    await expect.poll(told).toMatchObject(settings)
  }

  const create = (topic: string, numPartitions: number, settings: Record<string, string> = {}) =>
    admin.createTopics({
      waitForLeaders: false,
      timeout: 30_000,
      topics: [
        {
          topic,
          numPartitions,
          configEntries: Object.entries(settings).map(([name, value]) => ({ name, value })),
        },
      ],
    })

  test.each([
    ['counts-changelog', { 'cleanup.policy': 'delete' }, 'retention.ms=604800000'],
    ['counts-changelog', { 'cleanup.policy': 'compact,delete' }, 'retention.ms=604800000'],
    [
      'counts-changelog',
      { 'cleanup.policy': 'compact', 'max.message.bytes': '999999' },
      'max.message.bytes=999999',
    ],
    ['seen-changelog', { 'cleanup.policy': 'compact' }, 'cleanup.policy=compact'],
    ['seen-changelog', { 'retention.ms': '-1', 'retention.bytes': '1000' }, 'retention.bytes=1000'],
    ['by-value-repartition', { 'retention.ms': '1000' }, 'retention.ms=1000'],
    [
      'by-value-repartition',
      { 'retention.ms': '-1', 'message.timestamp.type': 'LogAppendTime' },
      'message.timestamp.type=LogAppendTime',
    ],
  ])(
    '%s with %o is refused, and repaired by the command in the error',
    async (name, bad, hazards) => {
      const before = await start()
      await runs(before)
      await before.stop()
      const topic = `${application}-${name}`
      await configure(topic, bad)
      const refused = await start()
      await expect.poll(() => refused.engine.state).toBe('failed')
      const error = refused.errors.at(-1)
      expect(error).toMatchObject({ code: 'TOPIC_UNSAFE', details: { topic, hazards } })
      await refused.stop()
      const command = /kafka-configs\.sh (.*), then start again/.exec(error!.message)![1]!
      const args = ['--bootstrap-server', kafka.bootstrap, ...command.split(' ')]
      const { code, stderr } = await kafka.tool(toolClasses.configs, args)
      expect(code, stderr).toBe(0)
      await runs(await start())
    },
  )

  test('a record of 1 MiB passes a re-key and its store', async () => {
    const topology = new Topology(application)
    const inputs = { key: textKey(), value: text() }
    topology
      .stream(`${application}-events`, inputs)
      .groupBy(() => 'all', { name: 'together', key: textKey() })
      .reduce({ name: 'latest', reduce: (_, value) => value })
    const settings = { createPartitions: 1 }
    const running = await startApplication({ bootstrap: kafka.bootstrap, topology, settings })
    closing.push(() => running.stop())
    const { log } = running
    const place = { topic: `${application}-events`, partition: 0 }
    const transaction = log.begin()
    const value = 'x'.repeat(1 << 20)
    transaction.append(place, makeBatch([{ key: 'k', value, timestampMs: Date.now() }]))
    await transaction.commit()
    const stored = async () => {
      const { records } = await readByMillrace(log, `${application}-latest-changelog`)
      return records.flat().at(-1)?.value?.length
    }
    await expect.poll(stored).toBeGreaterThan(1 << 20)
    expect(running.errors).toEqual([])
  })

  test('an internal topic with another partition count is named with both counts', async () => {
    await create(`${application}-counts-changelog`, 3, { 'cleanup.policy': 'compact' })
    const { engine } = await start()
    const code = () => engine.membership!.status.error?.code
    await expect.poll(code).toBe('GROUP_PARTITIONS_DIFFER')
    expect(engine.state).toBe('restoring')
    expect(engine.detail).toMatch(/counts-changelog.*expected 2, found 3/)
  })

  test('an input that grows stops what reads it, with both counts', async () => {
    const { engine } = await start()
    await expect.poll(() => engine.state).toBe('running')
    const topic = `${application}-events`
    await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
    await expect.poll(() => engine.membership!.status.error?.code).toBe('GROUP_PARTITIONS_DIFFER')
    expect(engine.state).toBe('restoring')
    await expect.poll(() => engine.detail).toMatch(/expected 4, found 2/)
    expect(engine.assembly.tasks).toEqual([])
  })

  test('a missing input is an error at the start where none may be created', async () => {
    const starting = startApplication({
      bootstrap: kafka.bootstrap,
      topology: topologyOf(application),
      settings: { createPartitions: undefined },
    })
    await expect(starting).rejects.toMatchObject({
      code: 'SOURCE_MISSING',
      details: { topic: `${application}-events` },
    })
  })

  test('an input that is deleted while running is named, and nothing is served', async () => {
    const running = await start()
    await runs(running)
    const topic = `${application}-events`
    await admin.deleteTopics({ topics: [topic] })
    await expect.poll(() => running.engine.state).not.toBe('running')
    // Whichever is first: the fetch that finds no topic, or the group that takes the tasks away.
    const told = () => [running.engine.detail, running.engine.membership!.status.detail].join()
    await expect.poll(told).toMatch(`Source topics ${topic} are missing`)
    for (const error of running.errors) {
      expect(error).toMatchObject({ details: { topic } })
      expect(error).toHaveProperty(
        'code',
        expect.stringMatching(/^(SOURCE_DELETED|TOPIC_MISSING)$/),
      )
    }
  })

  test('where the broker sets the times of an input, they are those of the append', async () => {
    const topic = ownName('append-time')
    await create(topic, 1, { 'message.timestamp.type': 'LogAppendTime' })
    const beforeMs = Date.now()
    const client = new Kafka({ brokers: [kafka.bootstrap], logLevel: logLevel.NOTHING })
    const producer = client.producer({ createPartitioner: Partitioners.DefaultPartitioner })
    await producer.connect()
    const { timestamp } = { timestamp: '1000' }
    const [receipt] = await producer.send({
      topic,
      messages: [{ key: 'k', value: 'v', timestamp }],
    })
    await producer.disconnect()
    const log = await openLog(kafka.bootstrap)
    closing.push(() => log.close())
    const { records } = await readByMillrace(log, topic)
    const { timestampMs } = records[0]![0]!
    expect(timestampMs).toBe(Number(receipt!.logAppendTime))
    expect(timestampMs).toBeGreaterThanOrEqual(beforeMs)
  })
})
