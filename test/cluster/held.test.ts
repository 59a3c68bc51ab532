/**
 * One of three instances stands still while 20 minutes of event time come in: the others go on at
 * speed with what it does not hold up, in bounded memory, and all is right in the end.
 */
import { expect, test } from 'vitest'
import { PARTITIONS, shopOracle, shopRecords, shopResults, shopTopology } from '../support/shop.ts'
import { SimulatedCluster } from '../support/simulation/cluster.ts'

/** An order every 150 ms. */
const ORDERS = (20 * 60_000) / 150
const STEPS = 40
const settings = {
  storeCacheBytes: 256 * 1024,
  bufferBytesMax: 128 * 1024,
  epochRecordsMax: 1_000,
}
/** A fetch brings up to a quarter more, and at least a batch. */
const BUFFERED_MAX = settings.bufferBytesMax * 1.5

interface Most {
  bufferedBytes: number
  cachedBytes: number
  overlayRows: number
}

function look(cluster: SimulatedCluster, most: Most): void {
  for (const { engine, process } of cluster.instances) {
    if (engine === undefined || process.dead) continue
    const { inputs, stores } = engine.assembly
    for (const { bufferedBytes } of inputs) {
      most.bufferedBytes = Math.max(most.bufferedBytes, bufferedBytes)
    }
    const sum = (of: (store: (typeof stores)[number]) => number) =>
      stores.reduce((total, store) => total + of(store), 0)
    most.cachedBytes = Math.max(
      most.cachedBytes,
      sum(({ metrics }) => metrics.cachedBytes),
    )
    most.overlayRows = Math.max(
      most.overlayRows,
      sum(({ metrics }) => metrics.overlayRows),
    )
  }
}

/** Records of the input that an instance has processed. */
const taken = ({ instances }: SimulatedCluster, id: string) =>
  instances
    .find(one => one.id === id)!
    .engine!.assembly.sources.reduce((total, { position }) => total + position, 0)

test.each([
  { forMs: 5_000, what: 'within its session' },
  { forMs: 15_000, what: 'for longer than its session' },
])('an instance stands still $what', async ({ forMs }) => {
  const records = shopRecords(3, ORDERS)
  const topology = shopTopology
  const cluster = new SimulatedCluster({ seed: 5, topology, partitions: PARTITIONS, settings })
  for (const id of ['a', 'b', 'c']) cluster.start(id)
  const first = records.splice(0, 300)
  cluster.append(first)
  await cluster.time.run(15_000)
  // Of the tasks that read the input some here and some there.
  const reading = () =>
    cluster.instances.filter(({ engine }) => engine!.assembly.sources.length > 0)
  while (reading().length < 2) {
    cluster.group!.coordinator.shuffle()
    await cluster.time.run(5_000)
  }
  const held = reading()[0]!
  const others = cluster.instances.filter(one => one !== held)
  const before = { held: taken(cluster, held.id), others: 0 }
  for (const { id } of others) before.others += taken(cluster, id)
  expect(before.held).toBeGreaterThan(0)
  expect(before.others).toBeGreaterThan(0)

  cluster.freeze(held, forMs)
  const most: Most = { bufferedBytes: 0, cachedBytes: 0, overlayRows: 0 }
  const size = Math.ceil(records.length / STEPS)
  const rest = [...records]
  while (rest.length > 0) {
    cluster.append(rest.splice(0, size))
    await cluster.time.run((forMs * 0.9) / STEPS)
    look(cluster, most)
  }
  // It has taken nothing, and the others most of what is theirs.
  expect(taken(cluster, held.id)).toBe(before.held)
  const after = others.reduce((total, { id }) => total + taken(cluster, id), 0)
  expect(after - before.others).toBeGreaterThan(records.length / 4)

  for (let i = 0; i < 20; i++) {
    await cluster.time.run(1_000)
    look(cluster, most)
  }
  await cluster.drain()
  expect(most.bufferedBytes).toBeGreaterThan(0)
  expect(most.bufferedBytes).toBeLessThanOrEqual(BUFFERED_MAX)
  // The budget, and what an epoch under way adds to it.
  expect(most.cachedBytes).toBeLessThanOrEqual(2 * settings.storeCacheBytes)
  // Of an epoch and the one that commits.
  expect(most.overlayRows).toBeLessThanOrEqual(2 * 10 * settings.epochRecordsMax)
  expect(await shopResults(cluster)).toEqual(shopOracle([...first, ...records]))
  expect(cluster.broker.violations).toEqual([])
  await cluster.close()
})
