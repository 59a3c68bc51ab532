/** What an instance says of itself while its tasks and its group come and go. */
import { expect, test } from 'vitest'
import { noTasks } from '../../log/membership.ts'
import { PARTITIONS, shopRecords, shopTopology } from '../support/shop.ts'
import { type Instance, SimulatedCluster } from '../support/simulation/cluster.ts'

async function startShop(): Promise<{ cluster: SimulatedCluster; one: Instance }> {
  const cluster = new SimulatedCluster({ seed: 1, topology: shopTopology, partitions: PARTITIONS })
  cluster.calm()
  const one = cluster.start('a')
  cluster.start('b')
  cluster.append(shopRecords(1, 100))
  await cluster.drain()
  return { cluster, one }
}

/** Tasks that the group gave it and that do not run. */
function missing({ engine }: Instance): string[] {
  const { active } = engine!.membership!.target ?? noTasks
  const names = Object.entries(active).flatMap(([sub, partitions]) =>
    partitions.map(partition => `${sub}/${partition}`),
  )
  return names.filter(name => engine!.assembly.task(name) === undefined)
}

test('an instance says that it runs when all of its tasks do, and not before', async () => {
  const { cluster } = await startShop()
  let seen = 0
  for (let i = 0; i < 400; i++) {
    if (i % 40 === 0) cluster.group!.coordinator.shuffle()
    if (i % 90 === 20) cluster.group!.cutOff(cluster.instances[i % 2]!.id, 8_000)
    await cluster.time.run(100)
    for (const instance of cluster.instances) {
      const { state } = instance.engine!
      if (missing(instance).length > 0) seen++
      if (state === 'running') expect(missing(instance)).toEqual([])
    }
  }
  expect(seen).toBeGreaterThan(10)
  await cluster.close()
})

test('an instance that its group does not hear says so once, and waits', async () => {
  const { cluster, one } = await startShop()
  cluster.group!.cutOff(one.id, 60_000)
  await cluster.time.run(60_000)
  const lost = [...cluster.errors].filter(([message]) => /live member/.test(message))
  expect(lost.map(([, count]) => count)).toEqual([1])
  expect(one.engine!.state).toBe('restoring')
  await cluster.drain()
  expect(one.engine!.state).toBe('running')
  await cluster.close()
})
