import { expect, test } from 'vitest'
import { text, textKey } from '../../streams/index.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'
import { Random } from '../support/random.ts'
import {
  lines,
  PARTITIONS,
  type ShopRecord,
  type ShopResults,
  shopOracle,
  shopRecords,
  shopTopology,
} from '../support/shop.ts'

const SETTINGS = { idleAfterMs: Number.POSITIVE_INFINITY }

/** The same partitions in the same order each, cut and interleaved at random. */
function interleave(records: readonly ShopRecord[], random: Random): ShopRecord[][] {
  const queues = new Map<string, ShopRecord[]>()
  for (const record of records) {
    const id = `${record.topic}/${record.partition}`
    queues.set(id, [...(queues.get(id) ?? []), record])
  }
  const waiting = [...queues.values()]
  const pipes: ShopRecord[][] = []
  while (waiting.length > 0) {
    const queue = random.pick(waiting)
    pipes.push(queue.splice(0, 1 + random.below(random.below(5) === 0 ? 400 : 30)))
    if (queue.length === 0) waiting.splice(waiting.indexOf(queue), 1)
  }
  return pipes
}

async function append(driver: TopologyTestDriver, records: readonly ShopRecord[]): Promise<void> {
  for (const topic of ['orders', 'payments'] as const) {
    await driver.append(
      topic,
      records.filter(record => record.topic === topic),
    )
  }
}

async function results(driver: TopologyTestDriver): Promise<ShopResults> {
  const serdes = { key: textKey(), value: text() }
  const written = async (topic: string) =>
    (await driver.output(topic, serdes))
      .map(({ key, value }) => `${key}=${value}`)
      .filter(line => !line.startsWith('end'))
      .sort()
  const dropped = driver.views.metrics().filter(({ name }) => name === 'dropped_records_total')
  return {
    volume: lines(await driver.rows('volume')),
    revenue: lines(await driver.rows('revenue')),
    finals: await written('finals'),
    unpaid: await written('unpaid'),
    late: dropped.reduce((sum, { value }) => sum + value, 0),
  }
}

async function run(
  records: readonly ShopRecord[],
  feed: (driver: TopologyTestDriver) => Promise<void>,
): Promise<void> {
  const settings = SETTINGS
  const driver = await TopologyTestDriver.open(shopTopology(), { partitions: PARTITIONS, settings })
  try {
    await feed(driver)
    await driver.process()
    expect(await results(driver)).toEqual(shopOracle(records))
  } finally {
    await driver.close()
  }
}

test('a backlog gives what the oracle computes from the raw records', async () => {
  const records = shopRecords(1, 3_000)
  const oracle = shopOracle(records)
  expect(oracle.late).toBeGreaterThan(20)
  expect(oracle.unpaid.length).toBeGreaterThan(200)
  await run(records, driver => append(driver, records))
})

test('results are equal under 100 random interleavings and cuts of the partitions', async () => {
  const records = shopRecords(2, 400)
  for (let seed = 0; seed < 100; seed++) {
    const random = new Random(seed)
    await run(records, async driver => {
      for (const records of interleave(shopRecords(2, 400), random)) {
        await append(driver, records)
        if (random.below(3) > 0) await driver.process()
      }
    })
  }
})

test('a partition that is read last loses nothing that was on time in itself', async () => {
  const records = shopRecords(3, 1_000)
  await run(records, async driver => {
    for (const partition of [0, 3, 1, 2]) {
      await append(
        driver,
        records.filter(record => record.partition === partition),
      )
      await driver.process()
    }
  })
})
