/** Several applications over one log and one database: what is one's is no other's. */
import { Type } from 'typebox'
import { expect, test } from 'vitest'
import { openEmbeddedLog } from '../../log/embedded/index.ts'
import type { EventLog } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { checkApplications } from '../../streams/applications.ts'
import { composeViews } from '../../streams/composed-views.ts'
import { Engine, json, Topology, textKey, tumbling, viewService } from '../../streams/index.ts'
import { resetApplication } from '../../streams/reset.ts'
import type { ViewService } from '../../streams/views.ts'
import { Random } from '../support/random.ts'

const PARTITIONS = 2
const TOPIC = 'events'
const SERDES = { key: textKey(), value: json<number>() }

interface Event {
  readonly key: string
  readonly value: number
  readonly timeMs: number
}

/** Steps and stores have the same names whatever the application; what they hold differs. */
function totals(application: string, weigh: (value: number) => number): Topology {
  const topology = new Topology(application)
  const events = topology.stream(TOPIC, SERDES)
  const sum = {
    initial: () => 0,
    add: (total: number, value: number) => total + weigh(value),
  }
  const value = { total: Type.Number() }
  const row = (total: number) => ({ total })
  events
    .groupBy(event => `d${event % 10}`, { name: 'by-digit', key: textKey('digit') })
    .aggregate({ name: 'totals', ...sum })
    .view({ name: `${application}-totals`, description: 'By digit', value, row })
  events
    .groupByKey({ name: 'by-key', key: textKey('key') })
    .windowedBy(tumbling(1000, { graceMs: 0 }))
    .aggregate({ name: 'windows', retentionMs: 1e9, ...sum })
    .view({ name: `${application}-windows`, description: 'By time', value, row })
  return topology
}

const ones = (name = 'ones') => totals(name, () => 1)
const sums = (name = 'sums') => totals(name, value => value)

let serial = 0
const environment = {
  clock: () => 1_000_000,
  schedule: () => () => {},
  randomBytes: (size: number) => Buffer.alloc(size, ++serial % 256),
  yieldNow: () => Promise.resolve(),
}

interface Running {
  readonly log: EventLog
  readonly engines: readonly Engine[]
  readonly views: ViewService
}

async function open(database: MemoryDatabase, topologies: readonly Topology[]): Promise<Running> {
  const log = await openEmbeddedLog(database, environment)
  if ((await log.describeTopic(TOPIC)) === undefined) await log.createTopic(TOPIC, PARTITIONS)
  // Side by side: none may overwrite what another has just recorded of its stores.
  const engines = await Promise.all(
    topologies.map(topology => Engine.open({ topology, log, database, environment })),
  )
  const { incarnation } = log
  const each = engines.map(engine => viewService({ engine, ...environment, incarnation }))
  return { log, engines, views: composeViews(each, incarnation) }
}

async function append(log: EventLog, events: readonly Event[]): Promise<void> {
  const transaction = log.begin()
  const builder = new RecordBatchBuilder()
  for (const { key, value, timeMs } of events) {
    builder.append(timeMs, slice(key), slice(JSON.stringify(value)))
    transaction.append(
      { topic: TOPIC, partition: key.charCodeAt(0) % PARTITIONS },
      builder.finish(),
    )
    builder.reset()
  }
  await transaction.commit()
}

function slice(text: string) {
  const bytes = Buffer.from(text)
  return { bytes, start: 0, end: bytes.length }
}

function story(seed: number, count: number): Event[] {
  const random = new Random(seed)
  // Some are late: their windows have closed.
  return Array.from({ length: count }, (_, i) => ({
    key: 'abcdef'[random.below(6)]!,
    value: random.below(1000),
    timeMs: Math.max(0, i * 50 - (random.below(10) === 0 ? 5000 : 0)),
  }))
}

/** Everything that the views of an application show, and how many dead letters it has. */
async function shown({ views, log }: Running, application: string): Promise<unknown> {
  const query = { key: {}, limit: 1000 }
  const [letters] = await log.offsets([{ topic: `${application}-dead-letters`, partition: 0 }])
  return {
    totals: (await views.rows(`${application}-totals`, query)).rows,
    windows: (await views.rows(`${application}-windows`, query)).rows,
    letters: letters!.endOffset,
  }
}

async function alone(topology: () => Topology, events: readonly Event[]): Promise<unknown> {
  const running = await open(new MemoryDatabase(), [topology()])
  await append(running.log, events)
  await running.engines[0]!.drain()
  const found = await shown(running, topology().application)
  await running.engines[0]!.stop()
  return found
}

test('two applications with equal step names show together what each shows alone, through kills', async () => {
  const events = story(7, 600)
  const truth = { ones: await alone(ones, events), sums: await alone(sums, events) }
  expect((truth.ones as { letters: number }).letters).toBeGreaterThan(10)
  const database = new MemoryDatabase()
  const random = new Random(3)
  for (let from = 0; from < events.length; from += 60) {
    const running = await open(database, [ones(), sums()])
    await append(running.log, events.slice(from, from + 60))
    // Each as far as it comes by chance; then the process is gone, without a stop.
    for (const engine of running.engines) {
      for (let steps = random.below(3); steps > 0; steps--) await engine.step()
      await engine.settle()
    }
  }
  const running = await open(database, [ones(), sums()])
  for (const engine of running.engines) await engine.drain()
  expect(await shown(running, 'ones')).toEqual(truth.ones)
  expect(await shown(running, 'sums')).toEqual(truth.sums)
  for (const engine of running.engines) await engine.stop()
})

test('a reset of one application leaves the other as it was', async () => {
  const database = new MemoryDatabase()
  const first = await open(database, [ones(), sums()])
  const events = story(8, 200)
  await append(first.log, events)
  for (const engine of first.engines) await engine.drain()
  const before = { ones: await shown(first, 'ones'), sums: await shown(first, 'sums') }
  for (const engine of first.engines) await engine.stop()
  await resetApplication({ application: 'ones', inputs: [TOPIC], database, log: first.log })
  const again = await open(database, [ones(), sums()])
  expect(await shown(again, 'sums')).toEqual(before.sums)
  expect(await again.views.rows('ones-totals', { key: {}, limit: 10 })).toMatchObject({ rows: [] })
  const consumed = () => again.engines.map(({ assembly }) => assembly.sources[0]!.recordsRead > 0)
  for (const engine of again.engines) await engine.drain()
  expect(consumed()).toEqual([true, false])
  expect(await shown(again, 'ones')).toEqual(before.ones)
  for (const engine of again.engines) await engine.stop()
})

test('a position covers what all applications cover; one that has stopped leaves the others answering', async () => {
  const running = await open(new MemoryDatabase(), [ones(), sums()])
  const { engines, views, log } = running
  await append(log, story(9, 50))
  await engines[0]!.drain()
  const ahead = viewService({ engine: engines[0]!, ...environment, incarnation: log.incarnation })
  const position = ahead.position()
  expect(await ahead.waitFor(position, 0)).toBe(true)
  expect(views.position()).not.toBe(position)
  const waiting = views.waitFor(position, 1000)
  await engines[1]!.drain()
  expect(await waiting).toBe(true)
  expect(views.position()).toBe(position)
  await engines[1]!.stop()
  expect((await views.rows('ones-totals', { key: {}, limit: 1 })).rows).toHaveLength(1)
  await expect(views.rows('sums-totals', { key: {}, limit: 1 })).rejects.toMatchObject({
    code: 'VIEW_NOT_READY',
  })
  await expect(views.rows('nothing', { key: {}, limit: 1 })).rejects.toMatchObject({
    code: 'VIEW_UNKNOWN',
  })
  expect(views.metrics().every(({ labels }) => /^(ones|sums)$/.test(labels.application!))).toBe(
    true,
  )
  expect(new Set(views.tasks().map(({ application }) => application))).toEqual(
    new Set(['ones', 'sums']),
  )
  await engines[0]!.stop()
})

test.each([
  ['the same name', [ones('a'), sums('a')], 'two of them are named a'],
  ['a name that begins as another with "-"', [ones('a-b'), sums('a')], 'begins with "a-"'],
  ['a name that begins as another with "."', [ones('a'), sums('a.b')], 'begins with "a."'],
])('applications with %s are refused', (_, topologies, reason) => {
  expect(() => checkApplications(topologies)).toThrow(reason)
})

test('applications with a view of the same name are refused, with both names', () => {
  const clash = new Topology('clash')
  clash
    .stream(TOPIC, SERDES)
    .groupByKey({ name: 'by-key', key: textKey('key') })
    .count({ name: 'count' })
    .view({
      name: 'ones-totals',
      description: 'Another',
      value: { count: Type.Integer() },
      row: count => ({ count }),
    })
  expect(() => checkApplications([ones(), clash])).toThrow(
    'ones and clash both have a view ones-totals',
  )
  expect(() => checkApplications([ones(), sums(), totals('sums2', () => 2)])).not.toThrow()
})
