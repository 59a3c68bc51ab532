import { expect, test } from 'vitest'
import { decodeBatches } from '../../log/record-columns.ts'
import { readHeaders } from '../../log/record-headers.ts'
import {
  lines,
  PARTITIONS,
  type ShopResults,
  shopOracle,
  shopRecords,
  shopTopology,
} from '../support/shop.ts'
import type { SimulatedCluster } from '../support/simulated-cluster.ts'
import { play, type StoryEvent } from './stories.ts'

async function written(cluster: SimulatedCluster, topic: string): Promise<string[]> {
  const found: string[] = []
  const { partitions } = (await cluster.log.describeTopic(topic))!
  for (let partition = 0; partition < partitions; partition++) {
    for (let offset = 0; ; ) {
      const request = { topic, partition, offset, bytesMax: 1 << 20 }
      const [response] = await cluster.log.fetch([request])
      const { runs, nextOffset } = decodeBatches(response!.bytes, { fromOffset: offset })
      if (nextOffset === offset) break
      offset = nextOffset
      for (const columns of runs) {
        for (let i = 0; i < columns.length; i++) {
          const key = columns.bytes.utf8Slice(columns.keyStart[i]!, columns.keyEnd[i]!)
          const value = columns.bytes.utf8Slice(columns.valueStart[i]!, columns.valueEnd[i]!)
          const reason = readHeaders(columns, i).find(([name]) => name === 'dl_reason')?.[1]
          found.push(`${key}=${reason ?? value}`)
        }
      }
    }
  }
  return found.filter(line => !line.startsWith('end')).sort()
}

async function results(cluster: SimulatedCluster): Promise<ShopResults> {
  return {
    volume: lines(await cluster.rows('volume')),
    revenue: lines(await cluster.rows('revenue')),
    finals: await written(cluster, 'finals'),
    unpaid: await written(cluster, 'unpaid'),
    late: (await written(cluster, 'shop-dead-letters')).length,
  }
}

/** Plays a story of the shop and compares everything with the oracle. */
async function playShop(story: { seed: number; orders: number; events: StoryEvent[] }) {
  const { seed, orders, events } = story
  const records = shopRecords(seed % 5, orders)
  const cluster = await play({
    seed,
    topology: shopTopology,
    partitions: PARTITIONS,
    topics: ['orders', 'payments'],
    records,
    events,
    standbys: seed % 2,
  })
  expect(await results(cluster), `seed ${seed}`).toEqual(shopOracle(records))
  return cluster
}

test('instances that come and go give what the oracle computes', async () => {
  let moves = 0
  for (let seed = 10; seed < 20; seed++) {
    const cluster = await playShop({ seed, orders: 300, events: ['start', 'stop', 'rebalance'] })
    moves += cluster.group.moves
    await cluster.close()
  }
  expect(moves).toBeGreaterThan(500)
}, 120_000)

const DISASTERS: StoryEvent[] = ['start', 'stop', 'rebalance', 'kill', 'kill', 'lose', 'expel']

test('instances are killed, lose their disks and are removed unknowingly', async () => {
  let kills = 0
  let refused = 0
  for (let seed = 30; seed < 50; seed++) {
    const cluster = await playShop({ seed, orders: 300, events: DISASTERS })
    kills += cluster.counts.kills
    refused += cluster.counts.refused
    await cluster.close()
  }
  expect(kills).toBeGreaterThan(30)
  expect(refused).toBeGreaterThan(5)
}, 240_000)
