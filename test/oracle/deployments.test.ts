/**
 * Deployments of a changed topology: the shop is opened with a part of its steps, gets the others
 * at random moments of its input, is killed at random crash points meanwhile, and must come to
 * what the oracle computes from all records.
 */
import { expect, test } from 'vitest'
import type { EngineSettings } from '../../streams/environment.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'
import { Random } from '../support/random.ts'
import {
  PARTITIONS,
  type ShopRecord,
  shopDeployments,
  shopOracle,
  shopRecords,
  shopResults,
  shopTopology,
} from '../support/shop.ts'
import { append, checkStores, KilledProcess } from './harness.ts'
import { interleave } from './inputs.ts'

interface Run {
  readonly seed: number
  readonly records: readonly ShopRecord[]
  readonly isKilled: boolean
}

/** Resolves with the number of kills. */
async function run({ seed, records, isKilled }: Run): Promise<number> {
  const random = new Random(seed)
  const stages = shopDeployments(random)
  const process = new KilledProcess(random)
  const settings: Partial<EngineSettings> = {
    idleAfterMs: Number.POSITIVE_INFINITY,
    epochRecordsMax: random.pick([7, 50, 1000]),
    alignMs: random.pick([10, 1000, 1_000_000]),
    storeCacheBytes: random.pick([0, 2000, 1_000_000]),
    closeRowsMax: random.pick([2, 10_000]),
  }
  let parts = stages.shift()!
  const start = () => {
    const { database, reached } = process
    const options = { partitions: PARTITIONS, settings, database, reached }
    return TopologyTestDriver.open(shopTopology('', parts), options)
  }
  let driver = await start()
  const cuts = interleave(records, random)
  const places = stages.map(() => 1 + random.below(cuts.length - 1)).sort((a, b) => a - b)
  for (const [i, cut] of cuts.entries()) {
    process.armed = false
    await append(driver, cut)
    const isDeployed = places[0] === i
    if (isDeployed) {
      await driver.close()
      while (places[0] === i) {
        parts = stages.shift()!
        places.shift()
      }
    }
    process.armed = isKilled
    for (let restarts = isDeployed, done = false; !done; ) {
      try {
        if (process.dead) {
          restarts = true
          await process.restart(driver.engine.plan)
        }
        if (restarts) driver = await start()
        restarts = false
        if (random.below(3) > 0) await driver.process()
        done = true
      } catch (error) {
        if (!process.dead) throw error
      }
    }
  }
  process.armed = false
  await driver.process()
  expect(await shopResults(driver), `seed ${seed}`).toEqual(shopOracle(records))
  await checkStores(driver)
  await driver.close()
  return process.kills
}

test('parts deployed at random moments come to what they are from scratch', async () => {
  for (let seed = 1; seed <= 8; seed++) {
    // Long enough that some are late for the join, too.
    await run({ seed, records: shopRecords(seed % 3, 900), isKilled: false })
  }
})

test('the same, killed at random crash points of builds and starts', async () => {
  let kills = 0
  for (let seed = 101; seed <= 106; seed++) {
    kills += await run({ seed, records: shopRecords(seed % 3, 120), isKilled: true })
  }
  expect(kills).toBeGreaterThan(40)
})
