/**
 * Events of 1997 and 1998 on brokers whose clocks delete, and refuse, what is old: imported,
 * counted, and counted the same after a restore from nothing but topics (law 4).
 */

import { readFileSync } from 'node:fs'
import { readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync, gzipSync } from 'node:zlib'
import { Kafka, logLevel } from 'kafkajs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cdnowLines, cdnowPath, cdnowPurchases } from '../support/cdnow.ts'
import { type CdnowTruth, cdnowTruth } from '../support/cdnow-truth.ts'
import { type KafkaUnderTest, quickCompaction, startKafka, steady } from '../support/kafka/kafka.ts'
import { kafkaIsMissing, START_MS_MAX } from '../support/kafka/shared.ts'
import { orderLines } from '../support/order-lines.ts'
import { millrace, ServiceProcess, scratchFolder } from '../support/service-process.ts'

const PURCHASES = 3_000
const HOUR_MS = 3_600_000
/** Unless a topic says otherwise, records older than an hour are refused, then deleted. */
const impatient = {
  ...quickCompaction,
  ...steady,
  'log.retention.ms': HOUR_MS,
  'log.message.timestamp.before.max.ms': HOUR_MS,
  'log.message.timestamp.after.max.ms': HOUR_MS,
}
/** Passes of the broker that deletes: it looks twice a second. */
const DELETION_MS = 3_000

interface Row {
  readonly [field: string]: unknown
}
type Views = Readonly<Record<string, readonly Row[]>>
const number = (row: Row, field: string) => row[field] as number

describe.skipIf(kafkaIsMissing !== undefined)('an old recording on Kafka', () => {
  const closing: (() => Promise<unknown>)[] = []
  let kafka: KafkaUnderTest
  let dataDir: string
  let scratch: string
  let service: ServiceProcess
  let truth: CdnowTruth
  let before: Views
  let position: string

  async function start(): Promise<void> {
    service = await ServiceProcess.start(dataDir, ['--no-demo'], {
      MILLRACE_BROKERS: kafka.bootstrap,
      IDLE_AFTER: 'never',
      VIEW_RETENTION: 'forever',
      LEAVE_ON_STOP: 'on',
      LOG_LEVEL: 'warn',
    })
    closing.push(() => service.kill())
    while (!(await fetch(`${service.url}/readyz`)).ok) await sleep(50)
  }

  async function allRows(): Promise<Views> {
    const { views } = await service.get<{ views: { name: string }[] }>('/v1/views')
    const rows: Record<string, Row[]> = {}
    for (const { name } of views) rows[name] = await service.rows(name, position)
    return rows
  }

  beforeAll(async () => {
    kafka = await startKafka({ config: impatient })
    closing.push(() => kafka.destroy())
    for (const _ of [0, 1]) {
      const { path, remove } = await scratchFolder()
      closing.unshift(remove)
      scratch = path
      dataDir ??= join(path, 'data')
    }
    const [header, ...lines] = gunzipSync(readFileSync(cdnowPath)).toString('latin1').split('\n')
    const excerpt = join(scratch, 'cdnow.txt.gz')
    const text = [header, ...lines.slice(0, PURCHASES), ''].join('\n')
    await writeFile(excerpt, gzipSync(Buffer.from(text, 'latin1')))
    truth = cdnowTruth(excerpt)
  }, START_MS_MAX)

  afterAll(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  test('it is imported, and counted as the file says', async () => {
    await start()
    const events = cdnowLines(cdnowPurchases().slice(0, PURCHASES))
    const file = join(scratch, 'events.ndjson')
    await writeFile(file, `${events.join('\n')}\n`)
    const { code, output } = await millrace(['import', file, '--data-dir', dataDir, '--json'])
    const answer = JSON.parse(output.trimEnd().split('\n').at(-1)!)
    expect({ code, ...answer }).toMatchObject({ code: 0, accepted: events.length })
    position = answer.position
    await service.reach(position, 120_000)
    before = await allRows()
    const minutes = before.revenue!.map(row => [
      row.windowStart,
      { paidOrders: row.paidOrders, revenueMinor: row.revenueMinor },
    ])
    expect(new Map(minutes as [number, unknown][])).toEqual(truth.revenueByMinute)
    const spent = before['customer-profile']!.map(row => [
      row.customerId,
      (row.spendMinor as Record<string, number>).USD,
    ])
    expect(new Map(spent as [string, number][])).toEqual(
      new Map(truth.customers.map(({ customerId, spendMinor }) => [customerId, spendMinor])),
    )
    expect(before['customer-sessions']!.length).toBe(truth.sessions.length)
    const volume = before['order-volume']!.reduce((sum, row) => sum + number(row, 'orders'), 0)
    expect(volume).toBe(PURCHASES)
    expect(await service.deadLetters(position)).toEqual([])
  }, 240_000)

  test('a restore from topics alone gives the same, after the clocks have had their turn', async () => {
    expect(await service.stop()).toEqual({ code: 0, signal: null })
    await rm(dataDir, { recursive: true })
    await sleep(DELETION_MS)
    await start()
    await service.reach(position, 120_000)
    expect(await allRows()).toEqual(before)
  }, 240_000)

  test('half of the files of the database deleted: it is built again', async () => {
    expect(await service.stop()).toEqual({ code: 0, signal: null })
    const files = await readdir(join(dataDir, 'db'))
    const tables = files.filter(name => /\.(sst|blob|log)$/.test(name)).sort()
    expect(tables.length).toBeGreaterThan(0)
    for (const [i, name] of tables.entries()) {
      if (i % 2 === 0) await rm(join(dataDir, 'db', name))
    }
    await start()
    await service.reach(position, 120_000)
    expect(await allRows()).toEqual(before)
  }, 240_000)

  test('no clock has deleted anything', async () => {
    const admin = new Kafka({ brokers: [kafka.bootstrap], logLevel: logLevel.NOTHING }).admin()
    await admin.connect()
    const starts: Record<string, string[]> = {}
    for (const topic of await admin.listTopics()) {
      // What the engine has done with it deletes from exchanges and blocks itself.
      const isTrimmed = /-repartition$|-once-|-left-|-right-|-attempts-/.test(topic)
      if (topic.startsWith('__') || isTrimmed) continue
      const lows = (await admin.fetchTopicOffsets(topic)).map(({ low }) => low)
      if (lows.some(low => low !== '0')) starts[topic] = lows
    }
    await admin.disconnect()
    expect(starts).toEqual({})
  })

  test('an event of some hours ahead, which is accepted, passes through all internal topics', async () => {
    const { order } = orderLines(0, Date.now() + 3 * HOUR_MS)
    const ahead = await service.post([order])
    await service.reach(ahead, 30_000)
    const rows = await service.rows('order-volume', ahead)
    expect(rows.reduce((sum, row) => sum + number(row, 'orders'), 0)).toBe(PURCHASES + 1)
    expect(service.stderr).not.toContain('an epoch failed')
  })
})
