/** Exchanges between instances: order along an edge, and when it goes in memory (law 5). */
import { Type } from 'typebox'
import { expect, test } from 'vitest'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { json, Topology, textKey } from '../../streams/index.ts'
import type { Input } from '../oracle/inputs.ts'
import { Random } from '../support/random.ts'
import { SimulatedCluster } from '../support/simulation/cluster.ts'
import { play, type StoryEvent } from './story.ts'

const PARTITIONS = 4
const BY_METER = 'meters-by-meter-repartition'

interface Reading {
  readonly meter: string
  readonly serial: number
}

const view = {
  name: 'last',
  description: 'Last reading',
  value: { serial: Type.Integer() },
}

/** The last reading of each meter by arrival: a record overtaken on the way is seen. */
function meters(): Topology {
  const topology = new Topology('meters')
  topology
    .stream('readings', { key: textKey(), value: json<Reading>() })
    .groupBy(({ meter }) => meter, { name: 'by-meter', key: textKey('meter') })
    .reduce({ name: 'last', reduce: (_, next) => next })
    .view(view)
  return topology
}

/** The same with another exchange before it. */
function metersByStreet(): Topology {
  const topology = new Topology('meters')
  topology
    .stream('readings', { key: textKey(), value: json<Reading>() })
    .selectKey(({ meter }) => meter.slice(0, 2))
    .repartition({ name: 'by-street', key: textKey() })
    .groupBy(({ meter }) => meter, { name: 'by-meter', key: textKey('meter') })
    .reduce({ name: 'last', reduce: (_, next) => next })
    .view(view)
  return topology
}

/** A meter's readings all come from one partition, in order. */
function readings(seed: number, count: number): Input[] {
  const random = new Random(seed)
  return Array.from({ length: count }, (_, serial) => {
    const partition = random.below(PARTITIONS)
    const meter = `m${partition}-${random.below(12)}`
    const timeMs = serial * 10
    return { topic: 'readings', partition, key: `r${serial}`, timeMs, value: { meter, serial } }
  })
}

interface MeterStory {
  readonly seed: number
  readonly count: number
  readonly topology?: () => Topology
  readonly events?: readonly StoryEvent[]
}

async function playMeters({ seed, count, topology = meters, events }: MeterStory) {
  const inputs = readings(seed, count)
  const story = { seed, topology, partitions: PARTITIONS, inputs }
  const cluster = await play({ ...story, ...(events && { events }) })
  const last = new Map(
    inputs.map(({ value }) => [(value as Reading).meter, (value as Reading).serial]),
  )
  const rows = await cluster.rows('last')
  const found = new Map(rows.map(({ meter, serial }) => [meter, serial]))
  expect(found, `seed ${seed}`).toEqual(last)
  return cluster
}

function exchanged({ broker }: SimulatedCluster): number {
  let records = 0
  for (let partition = 0; partition < PARTITIONS; partition++) {
    records += broker.offsets({ topic: BY_METER, partition }).endOffset
  }
  return records
}

test('no record overtakes another of its key, whatever moves', async () => {
  let remote = 0
  for (let seed = 0; seed < 12; seed++) {
    const cluster = await playMeters({ seed, count: 400 })
    remote += exchanged(cluster)
    await cluster.close()
  }
  expect(remote).toBeGreaterThan(3000)
})

test('what a drain passes on in memory is committed with it: a kill right after loses nothing', async () => {
  let kills = 0
  for (let seed = 0; seed < 12; seed++) {
    const events: StoryEvent[] = ['start', 'shuffle', 'crash', 'crash']
    const cluster = await playMeters({ seed, count: 300, topology: metersByStreet, events })
    kills += cluster.counts.kills
    await cluster.close()
  }
  expect(kills).toBeGreaterThan(30)
})

/** Records that each partition of the topic holds now, at most. */
function longest({ broker }: SimulatedCluster): number {
  const lengths = [...Array(PARTITIONS).keys()].map(partition => {
    const { startOffset, highWatermark } = broker.offsets({ topic: BY_METER, partition })
    return highWatermark - startOffset
  })
  return Math.max(...lengths)
}

test('a repartition topic stays short; nothing still to be read is deleted, whoever is killed', async () => {
  const settings = { trimIntervalMs: 500, epochMsMin: 20 }
  const cluster = new SimulatedCluster({
    seed: 6,
    topology: meters,
    partitions: PARTITIONS,
    settings,
  })
  cluster.start('a')
  cluster.start('b')
  cluster.append(readings(0, 4))
  await cluster.drain()
  const inputs = readings(1, 2_000)
  let most = 0
  for (let i = 0; i < inputs.length; i += 4) {
    cluster.append(inputs.slice(i, i + 4))
    await cluster.time.run(20)
    most = Math.max(most, longest(cluster))
    const [one] = cluster.instances
    if (i % 400 === 200) one!.left = i % 7
    for (const dead of cluster.instances.filter(({ process }) => process.dead)) {
      cluster.bury(dead)
      cluster.start(dead.id)
    }
  }
  for (const instance of cluster.instances) instance.left = Number.POSITIVE_INFINITY
  cluster.calm()
  await cluster.drain()
  expect(cluster.broker.violations).toEqual([])
  expect(cluster.counts.kills).toBeGreaterThan(3)
  // Some seconds' worth, while the topic got far more.
  expect(exchanged(cluster)).toBeGreaterThan(4 * most)
  const last = new Map(inputs.map(({ value }) => [(value as Reading).meter, value]))
  expect(await cluster.rows('last')).toEqual(expect.arrayContaining([...last.values()]))
  await cluster.close()
})

test('a transaction that a dead instance left open holds up no input', async () => {
  const cluster = new SimulatedCluster({ seed: 4, topology: meters, partitions: PARTITIONS })
  cluster.calm()
  cluster.start('a')
  cluster.append(readings(0, 4))
  await cluster.time.run(100)
  const { broker } = cluster
  while (broker.describeTopic(BY_METER) === undefined) await cluster.time.run(10)
  const builder = new RecordBatchBuilder()
  builder.append(0, null, null)
  const open = broker.begin('dead', broker.initProducer('dead'))
  for (let partition = 0; partition < PARTITIONS; partition++) {
    broker.produce(open, { topic: BY_METER, partition }, Buffer.from(builder.finish()))
    builder.append(0, null, null)
  }
  while (cluster.instances[0]!.engine?.state !== 'running') await cluster.time.run(10)
  // Every 20 ms a record of each partition; how far behind does the instance fall?
  let behind = 0
  for (let i = 0; i < 100; i++) {
    const [one] = readings(i, 1)
    cluster.append([0, 1, 2, 3].map(partition => ({ ...one!, partition })))
    await cluster.time.run(20)
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const target = { topic: 'readings', partition }
      const done = broker.decided(cluster.application, target)
      behind = Math.max(behind, broker.offsets(target).endOffset - done)
    }
  }
  expect(open.state).toBe('open')
  expect(behind).toBeLessThan(15)
  await cluster.drain()
  await cluster.close()
})

test('one instance alone writes no repartition topic once it is drained', async () => {
  const cluster = await playMeters({ seed: 99, count: 50, events: ['start'] })
  for (const instance of cluster.instances.slice(1)) await cluster.stop(instance)
  await cluster.drain()
  const before = exchanged(cluster)
  expect(before).toBeGreaterThan(0)
  expect(cluster.instances[0]!.engine!.assembly.whole).toBe(true)
  const more = readings(98, 200)
  cluster.append(more)
  await cluster.drain()
  expect(exchanged(cluster)).toBe(before)
  const last = new Map(more.map(({ value }) => [(value as Reading).meter, value]))
  expect(await cluster.rows('last')).toEqual(expect.arrayContaining([...last.values()]))
  await cluster.close()
})
