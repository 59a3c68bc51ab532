/** Standbys: copies that follow, are promoted with little to read, and end when they are told. */
import { expect, test } from 'vitest'
import { json, Topology, textKey } from '../../streams/index.ts'
import type { Input } from '../oracle/inputs.ts'
import { type Instance, SimulatedCluster } from '../support/simulation/cluster.ts'
import { checkStores } from './prove.ts'

const PARTITIONS = 2

interface Item {
  readonly n: number
}

/** A join, whose sides are blocks, and totals, which are rows. */
function orders(): Topology {
  const topology = new Topology('orders')
  const items = { key: textKey(), value: json<Item>() }
  const orders = topology.stream('orders', items)
  const payments = topology.stream('payments', items)
  orders
    .join(payments, (order, payment) => ({ n: order.n + payment.n }), {
      name: 'paid',
      beforeMs: 10_000,
      afterMs: 10_000,
      graceMs: 0,
      left: items,
      right: items,
    })
    .groupByKey({ name: 'by-key', key: textKey() })
    .aggregate<Item>({
      name: 'totals',
      initial: () => ({ n: 0 }),
      add: (sum, { n }) => ({ n: sum.n + n }),
    })
  return topology
}

function items(from: number, count: number): Input[] {
  return Array.from({ length: count }, (_, i) => from + i).flatMap(i =>
    ['orders', 'payments'].map(topic => {
      const timeMs = i * 10
      return { topic, partition: i % PARTITIONS, key: `k${i % 500}`, timeMs, value: { n: 1 } }
    }),
  )
}

async function twoInstances(): Promise<SimulatedCluster> {
  const cluster = new SimulatedCluster({
    seed: 5,
    topology: orders,
    partitions: PARTITIONS,
    standbys: 1,
  })
  cluster.calm()
  cluster.start('a')
  cluster.start('b')
  cluster.append(items(0, 2_000))
  await cluster.drain()
  return cluster
}

const standbysOf = ({ engine }: Instance) =>
  engine!.tasks().filter(({ state }) => state === 'standby')

test('a standby has the rows and the live blocks of its task', async () => {
  const cluster = await twoInstances()
  expect(cluster.instances.flatMap(standbysOf)).toHaveLength(PARTITIONS)
  expect(await checkStores(cluster)).toBeGreaterThan(0)
  cluster.append(items(2_000, 500))
  await cluster.drain()
  await checkStores(cluster)
  await cluster.close()
})

test('a promoted standby reads the tail of its changelogs and no more', async () => {
  const cluster = await twoInstances()
  const [first, second] = cluster.instances as [Instance, Instance]
  const restored = second.log.changelogRecords
  expect(restored).toBeGreaterThan(1_000)
  // The last of it is written just before the active one dies.
  cluster.append(items(2_000, 20))
  await cluster.time.run(400)
  cluster.kill(first)
  cluster.bury(first)
  await cluster.time.run(20_000)
  await cluster.drain()
  expect(second.engine!.assembly.tasks).toHaveLength(PARTITIONS)
  expect(second.log.changelogRecords - restored).toBeLessThan(200)
  await cluster.close()
})

test('a standby whose disk was lost is as its task again', async () => {
  const cluster = await twoInstances()
  const lost = cluster.instances.find(instance => standbysOf(instance).length > 0)!
  cluster.bury(lost, { loseDisk: true })
  const again = cluster.start(lost.id)
  await cluster.drain()
  expect(again.log.changelogRecords).toBeGreaterThan(500)
  await checkStores(cluster)
  await cluster.close()
})

test('a stop leaves no timer, no call and no handle behind', async () => {
  const cluster = await twoInstances()
  cluster.append(items(2_000, 50))
  await cluster.time.run(130)
  for (const instance of [...cluster.instances]) {
    const stopping = instance.engine!.stop()
    await cluster.time.run(5_000)
    await stopping
    expect(instance.timers, 'timers').toBe(0)
    expect(instance.log.callsOpen, 'calls').toBe(0)
    expect(instance.database.openHandles, 'handles').toBe(0)
  }
})
