/** Stories of a simulated cluster: what happens beside the instances' turns, from a seed. */
import { expect } from 'vitest'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import type { Topology } from '../../streams/index.ts'
import { Random } from '../support/random.ts'
import { SimulatedCluster } from '../support/simulated-cluster.ts'

export type StoryEvent = 'start' | 'stop' | 'kill' | 'lose' | 'expel' | 'rebalance'

export interface StoryRecord {
  readonly topic: string
  readonly partition: number
  readonly key: string
  readonly timeMs: number
  readonly value: unknown
}

export interface Story {
  readonly seed: number
  readonly topology: () => Topology
  readonly partitions: number
  readonly topics: readonly string[]
  readonly records: readonly StoryRecord[]
  readonly standbys?: number
  /** Each is done now and then. */
  readonly events: readonly StoryEvent[]
}

const NAMES = ['a', 'b', 'c']

/** Plays a story to its end: all records processed, nobody dead. */
export async function play(story: Story): Promise<SimulatedCluster> {
  const { seed, topology, partitions, standbys, records, events } = story
  const random = new Random(seed)
  const cluster = await SimulatedCluster.open({
    topology,
    partitions,
    random,
    ...(standbys === undefined ? {} : { standbys }),
    settings: { epochRecordsMax: random.pick([1, 7, 50, 1000]) },
  })
  for (const topic of story.topics) await cluster.log.createTopic(topic, partitions)
  await cluster.start('a')
  for (let done = 0; done < records.length; ) {
    const size = 1 + random.below(random.below(4) === 0 ? 60 : 10)
    await append(cluster, records.slice(done, done + size))
    done += size
    await takeTurns(cluster, random)
    buryTheDead(cluster, random, events)
    if (random.below(2) === 0) await happen(random.pick(events), cluster, random)
    if (cluster.instances.length === 0) await happen('start', cluster, random)
  }
  await bringToRest(cluster)
  expect(cluster.group.conflicts, 'times at which a task had two owners').toBe(0)
  return cluster
}

export async function append(
  cluster: SimulatedCluster,
  records: readonly StoryRecord[],
): Promise<void> {
  const builder = new RecordBatchBuilder()
  const transaction = cluster.log.begin()
  for (const { topic, partition, key, timeMs, value } of records) {
    builder.append(timeMs, bytes(key), bytes(JSON.stringify(value)))
    transaction.append({ topic, partition }, builder.finish())
    builder.reset()
  }
  await transaction.commit()
}

function bytes(text: string) {
  const buffer = Buffer.from(text)
  return { bytes: buffer, start: 0, end: buffer.length }
}

async function takeTurns(cluster: SimulatedCluster, random: Random): Promise<void> {
  for (let turns = random.below(8); turns > 0; turns--) {
    if (cluster.instances.length > 0) await cluster.turn(random.pick(cluster.instances))
    if (random.below(4) === 0) await new Promise(resolve => setImmediate(resolve))
  }
}

function buryTheDead(cluster: SimulatedCluster, random: Random, events: readonly StoryEvent[]) {
  for (const dead of cluster.instances.filter(instance => instance.dead)) {
    cluster.bury(dead, { loseDisk: events.includes('lose') && random.below(3) === 0 })
    // Its session ends some time, or it is back before.
    if (random.below(2) === 0) cluster.group.expel(dead.id)
  }
}

async function happen(event: StoryEvent, cluster: SimulatedCluster, random: Random): Promise<void> {
  const { live, group } = cluster
  if (event === 'start') {
    const idle = NAMES.filter(name => !cluster.instances.some(({ id }) => id === name))
    if (idle.length > 0) await cluster.start(random.pick(idle))
  }
  if (event === 'rebalance') group.rebalance()
  if (live.length === 0) return
  if (event === 'stop' && live.length > 1) await cluster.stop(random.pick(live))
  if (event === 'kill') cluster.killAfter(random.pick(live), random.below(20))
  if (event === 'expel') group.expel(random.pick(live).id)
}

async function bringToRest(cluster: SimulatedCluster): Promise<void> {
  for (const instance of [...cluster.instances]) {
    instance.left = Number.POSITIVE_INFINITY
    if (!instance.dead) continue
    cluster.bury(instance)
    cluster.group.expel(instance.id)
  }
  for (const name of NAMES) {
    if (!cluster.instances.some(({ id }) => id === name)) await cluster.start(name)
  }
  await cluster.drain()
}
