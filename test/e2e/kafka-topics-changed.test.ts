/** What somebody does to the topics and offsets of an application on Kafka, and what it says. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Kafka, logLevel } from 'kafkajs'
import { afterEach, expect, test } from 'vitest'
import { effects } from '../../cli/effects.ts'
import { MillraceError } from '../../log/errors.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { json, Topology, text, textKey } from '../../streams/index.ts'
import { viewService } from '../../streams/view-service.ts'
import { appendFacts, manyKeys, PARTITIONS } from '../crash/many-keys.ts'
import { type Application, startApplication } from '../support/kafka/application.ts'
import { readCommitted } from '../support/kafka/read-committed.ts'
import { describeOnKafka, ownName } from '../support/kafka/shared.ts'
import { toolClasses } from '../support/kafka/tool.ts'

const FACTS = 400
/** The group hears of a changed topic within it. */
const NOTICE_MS = 15_000
const TEST_MS = 90_000

const numbers = Array.from({ length: PARTITIONS }, (_, partition) => partition)

describeOnKafka('an application on Kafka', kafka => {
  const closing: (() => Promise<unknown>)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  async function admin() {
    const client = new Kafka({ brokers: [kafka.bootstrap], logLevel: logLevel.NOTHING }).admin()
    await client.connect()
    closing.push(() => client.disconnect())
    return client
  }

  async function start(prefix: string, database: MemoryDatabase): Promise<Application> {
    const { topology, settings } = manyKeys(prefix)
    const member = { memberId: 'member-one' }
    const { bootstrap } = kafka
    const app = await startApplication({ bootstrap, topology, settings, database, member })
    closing.push(() => app.stop())
    return app
  }

  /** How many facts its view has counted. */
  async function counted({ engine, log }: Application): Promise<number> {
    const views = viewService({ engine, ...effects, incarnation: log.incarnation })
    let sum = 0
    for (let cursor: string | undefined; ; ) {
      const page = await views.localRows('totals', { key: {}, limit: 1000, cursor })
      for (const { count } of page.rows) sum += count as number
      if (page.next === null) return sum
      cursor = page.next
    }
  }

  /** An application that has counted its facts; with `restart` as it is when it is back. */
  async function began() {
    const database = new MemoryDatabase()
    const prefix = `${ownName('changed')}-`
    const app = await start(prefix, database)
    await expect.poll(() => app.engine.state).toBe('running')
    await appendFacts(app.log, prefix, 0, FACTS)
    await expect.poll(() => counted(app).catch(() => -1)).toBe(FACTS)
    return { app, prefix, database, facts: `${prefix}facts` }
  }

  /** Starts it again; what it gives up with, whether at once or after a while. */
  async function failureOf(prefix: string, database: MemoryDatabase): Promise<MillraceError> {
    const app = await start(prefix, database).catch(error => error as MillraceError)
    if (app instanceof MillraceError) return app
    await app.ended
    expect(app.engine.state).toBe('failed')
    await expect(counted(app)).rejects.toThrow()
    return app.errors.at(-1) as MillraceError
  }

  test(
    'fault 27: an input that has grown takes the tasks away, with both counts',
    async () => {
      const { app, prefix, database, facts } = await began()
      await (await admin()).createPartitions({ topicPartitions: [{ topic: facts, count: 6 }] })
      await expect
        .poll(() => app.engine.detail, { timeout: NOTICE_MS })
        .toMatch(/expected 6, found 4.*keys move when a topic grows/)
      expect(app.engine.state).toBe('restoring')
      const { epochs } = app.engine
      await appendFacts(app.log, prefix, FACTS, 2 * FACTS)
      await sleep(1_000)
      expect(app.engine.epochs).toBe(epochs)
      await app.stop()
      const { code, message } = await failureOf(prefix, database)
      expect(code).toBe('STATE_FOREIGN')
      expect(message).toContain('its partitions was 4 and is now 6')
    },
    TEST_MS,
  )

  test(
    'fault 26: an input that was deleted and made again is not gone on with',
    async () => {
      const { app, prefix, database, facts } = await began()
      await app.stop()
      const client = await admin()
      await client.deleteTopics({ topics: [facts] })
      await sleep(1_000)
      await client.createTopics({ topics: [{ topic: facts, numPartitions: PARTITIONS }] })
      const { code, message } = await failureOf(prefix, database)
      expect(code).toBe('OFFSETS_MISSING')
      expect(message).toContain('millrace reset')
    },
    TEST_MS,
  )

  test(
    'fault 26: a changelog that was deleted and made again is named, with local state and without',
    async () => {
      const { app, prefix, database } = await began()
      await app.stop()
      const client = await admin()
      const topic = `${prefix}many-totals-changelog`
      await client.deleteTopics({ topics: [topic] })
      await sleep(1_000)
      const settings = { 'cleanup.policy': 'compact', 'max.message.bytes': '2097152' }
      const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }))
      await client.createTopics({ topics: [{ topic, numPartitions: PARTITIONS, configEntries }] })
      for (const state of [database, new MemoryDatabase()]) {
        const { code, message } = await failureOf(prefix, state)
        expect(code, message).toBe('CHANGELOG_RECREATED')
        expect(message).toContain(topic)
      }
    },
    TEST_MS,
  )

  test(
    'fault 28: offsets that are gone stop it, with its state and without',
    async () => {
      const { app, prefix, database, facts } = await began()
      await app.stop()
      const deletion = ['--delete-offsets', '--group', `${prefix}many`, '--input-topic', facts]
      const { code, stderr } = await kafka.tool(toolClasses.streamsGroups, [
        ...['--bootstrap-server', kafka.bootstrap],
        ...deletion,
      ])
      expect(code, stderr).toBe(0)
      for (const state of [database, new MemoryDatabase()]) {
        expect(await failureOf(prefix, state)).toMatchObject({ code: 'OFFSETS_MISSING' })
      }
    },
    TEST_MS,
  )

  test(
    'fault 28: input deleted before it was processed stops it, with the offsets',
    async () => {
      const { app, prefix, database, facts } = await began()
      await app.stop('remains')
      const other = await start(`${ownName('other')}-`, new MemoryDatabase())
      await appendFacts(other.log, prefix, FACTS, 2 * FACTS)
      for (const partition of numbers) {
        await other.log.deleteRecords({ topic: facts, partition }, 150)
      }
      const { code, message } = await failureOf(prefix, database)
      expect(code).toBe('OFFSET_LOST')
      expect(message).toMatch(/Offset \d+ of .*-facts-\d is not in the log, which has 150 to \d+/)
    },
    TEST_MS,
  )

  test(
    'fault 34: a result that is too large is a dead letter, and the next one is written',
    async () => {
      const prefix = `${ownName('large')}-`
      const topology = new Topology(`${prefix}app`)
      const serdes = { key: textKey(), value: text() }
      topology
        .stream(`${prefix}sizes`, { key: textKey(), value: json<number>() })
        .mapValues(size => 'x'.repeat(size))
        .to(`${prefix}texts`, serdes)
      const settings = { createPartitions: 1 }
      const app = await startApplication({ bootstrap: kafka.bootstrap, topology, settings })
      closing.push(() => app.stop())
      for (const size of [10, 3_000_000, 20]) {
        const builder = new RecordBatchBuilder()
        const [key, value] = ['key', String(size)].map(one => {
          const bytes = Buffer.from(one)
          return { bytes, start: 0, end: bytes.length }
        })
        builder.append(Date.now(), key!, value!)
        const transaction = app.log.begin()
        transaction.append({ topic: `${prefix}sizes`, partition: 0 }, builder.finish())
        await transaction.commit()
      }
      const read = async () => {
        const names = [`${prefix}texts`, `${prefix}app-dead-letters`]
        const records = await readCommitted(kafka.bootstrap, names)
        return names.map(name => records.get(name)!.map(({ value }) => value!.length))
      }
      await expect.poll(read, { timeout: 30_000 }).toEqual([[10, 20], ['3000000'.length]])
      expect(app.errors.map(error => (error as MillraceError).code)).toEqual(['BATCH_TOO_LARGE'])
    },
    TEST_MS,
  )
})
