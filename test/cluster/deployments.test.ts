/**
 * Deployments of a changed topology over several instances: parts of the shop are added at random
 * moments, and instances move, stop, die and lose their disks while these are built.
 */
import { expect, test } from 'vitest'
import { Random } from '../support/random.ts'
import {
  PARTITIONS,
  shopDeployments,
  shopOracle,
  shopRecords,
  shopResults,
  shopTopology,
} from '../support/shop.ts'
import type { SimulatedCluster } from '../support/simulation/cluster.ts'
import { checkStores } from './prove.ts'
import { play, type StoryEvent } from './story.ts'

async function playDeployments(
  seed: number,
  events?: readonly StoryEvent[],
): Promise<SimulatedCluster> {
  const records = shopRecords(seed % 5, 300)
  const [first, ...later] = shopDeployments(new Random(seed)).map(
    parts => () => shopTopology('', parts),
  )
  const cluster = await play({
    seed,
    topology: first!,
    deployments: later,
    partitions: PARTITIONS,
    inputs: records,
    ...(events && { events }),
  })
  expect(await shopResults(cluster), `seed ${seed}`).toEqual(shopOracle(records))
  await checkStores(cluster)
  await cluster.close()
  return cluster
}

/** Topics that stand for what branches have read. */
const branched = ({ broker }: SimulatedCluster) =>
  broker.listTopics().filter(({ name }) => name.endsWith('-positions')).length

test('parts that are added are built while instances come and go', async () => {
  let branches = 0
  for (let seed = 1; seed < 5; seed++) {
    const cluster = await playDeployments(seed, ['start', 'stop', 'shuffle'])
    expect(cluster.counts.moves).toBeGreaterThan(10)
    branches += branched(cluster)
  }
  expect(branches).toBeGreaterThan(4)
})

test('parts that are added are built while instances die, lose disks, freeze and lose their group', async () => {
  let kills = 0
  let branches = 0
  for (let seed = 30; seed < 36; seed++) {
    const cluster = await playDeployments(seed)
    kills += cluster.counts.kills
    branches += branched(cluster)
  }
  expect(kills).toBeGreaterThan(8)
  expect(branches).toBeGreaterThan(6)
})
