/** Exchanges between instances: order along an edge, and when it goes in memory (law 5). */
import { Type } from 'typebox'
import { expect, test } from 'vitest'
import { json, Topology, textKey } from '../../streams/index.ts'
import { Random } from '../support/random.ts'
import type { SimulatedCluster } from '../support/simulated-cluster.ts'
import { append, play, type StoryEvent, type StoryRecord } from './stories.ts'

const PARTITIONS = 4

interface Reading {
  readonly meter: string
  readonly serial: number
}

/** The last reading of each meter by arrival: a record overtaken on the way is seen. */
function metersTopology(): Topology {
  const topology = new Topology('meters')
  topology
    .stream('readings', { key: textKey(), value: json<Reading>() })
    .groupBy(({ meter }) => meter, { name: 'by-meter', key: textKey('meter') })
    .reduce({ name: 'last', reduce: (_, next) => next })
    .view({
      name: 'last',
      description: 'Last reading',
      value: { serial: Type.Integer() },
    })
  return topology
}

/** A meter's readings all come from one partition, in order. */
function readings(seed: number, count: number): StoryRecord[] {
  const random = new Random(seed)
  return Array.from({ length: count }, (_, serial) => {
    const partition = random.below(PARTITIONS)
    const meter = `m${partition}-${random.below(12)}`
    const timeMs = serial * 10
    return { topic: 'readings', partition, key: `r${serial}`, timeMs, value: { meter, serial } }
  })
}

async function playMeters(seed: number, count: number, events: StoryEvent[]) {
  const records = readings(seed, count)
  const cluster = await play({
    seed,
    topology: metersTopology,
    partitions: PARTITIONS,
    topics: ['readings'],
    records,
    events,
  })
  const last = new Map(
    records.map(({ value }) => [(value as Reading).meter, (value as Reading).serial]),
  )
  const rows = await cluster.rows('last')
  const found = new Map(rows.map(({ meter, serial }) => [meter, serial]))
  expect(found, `seed ${seed}`).toEqual(last)
  return cluster
}

async function exchanged(cluster: SimulatedCluster): Promise<number> {
  const topic = 'meters-by-meter-repartition'
  const targets = Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition }))
  const ranges = await cluster.log.offsets(targets)
  return ranges.reduce((sum, { endOffset }) => sum + endOffset, 0)
}

test('no record overtakes another of its key, whatever moves', async () => {
  let remote = 0
  const events: StoryEvent[] = ['start', 'stop', 'rebalance', 'kill', 'expel']
  for (let seed = 0; seed < 25; seed++) {
    const cluster = await playMeters(seed, 400, events)
    remote += await exchanged(cluster)
    await cluster.close()
  }
  expect(remote).toBeGreaterThan(3000)
}, 120_000)

test('one instance alone writes no repartition topic once it is drained', async () => {
  const cluster = await playMeters(99, 50, ['start'])
  for (const instance of cluster.instances.slice(1)) await cluster.stop(instance)
  await cluster.drain()
  const before = await exchanged(cluster)
  expect(before).toBeGreaterThan(0)
  expect(cluster.instances[0]!.engine.assembly.whole).toBe(true)
  const more = readings(98, 200)
  await append(cluster, more)
  await cluster.drain()
  expect(await exchanged(cluster)).toBe(before)
  const last = new Map(more.map(({ value }) => [(value as Reading).meter, value]))
  expect(await cluster.rows('last')).toEqual(expect.arrayContaining([...last.values()]))
  await cluster.close()
})
