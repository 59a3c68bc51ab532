/** The shop on a simulated cluster that gets its parts one deployment after the other. */
import assert from 'node:assert/strict'
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

/** Rejects when the cluster gives anything else than the oracle. */
export async function playDeployments(
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
  assert.deepStrictEqual(await shopResults(cluster), shopOracle(records))
  await checkStores(cluster)
  await cluster.close()
  return cluster
}

/** How many topics stand for what branches have read. */
export function positionsTopics({ broker }: SimulatedCluster): number {
  return broker.listTopics().filter(({ name }) => name.endsWith('-positions')).length
}
