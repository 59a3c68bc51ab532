/** The shop on several instances: joins, windows and views under moves and disasters. */
import { expect, test } from 'vitest'
import { PARTITIONS, shopOracle, shopRecords, shopResults, shopTopology } from '../support/shop.ts'
import type { SimulatedCluster } from '../support/simulation/cluster.ts'
import { play, type StoryEvent } from './story.ts'

/** Plays a story of the shop and compares everything with the oracle. */
async function playShop(seed: number, events?: readonly StoryEvent[]): Promise<SimulatedCluster> {
  const records = shopRecords(seed % 5, 300)
  const cluster = await play({
    seed,
    topology: shopTopology,
    partitions: PARTITIONS,
    inputs: records,
    ...(events && { events }),
  })
  expect(await shopResults(cluster), `seed ${seed}`).toEqual(shopOracle(records))
  await cluster.close()
  return cluster
}

test('instances that come and go give what the oracle computes', async () => {
  let moves = 0
  for (let seed = 10; seed < 13; seed++) {
    const { counts } = await playShop(seed, ['start', 'stop', 'shuffle'])
    expect(counts.kills).toBe(0)
    moves += counts.moves
  }
  expect(moves).toBeGreaterThan(100)
})

test('instances are killed, lose their disks, are stopped for a while and lose their group', async () => {
  let kills = 0
  let aborts = 0
  for (let seed = 30; seed < 36; seed++) {
    const { counts, broker } = await playShop(seed)
    kills += counts.kills
    aborts += broker.counts.aborts
  }
  expect(kills).toBeGreaterThan(8)
  expect(aborts).toBeGreaterThan(0)
})
