import { afterEach, expect, test } from 'vitest'
import { json, Topology, text, textKey, tumbling } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { proofSuite } from '../../oracle/harness.ts'
import { type Sale, salesByRegion, windowProofs } from '../../oracle/proofs/window-aggregate.ts'

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

async function start(topology: Topology, partitions = 1): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(topology, { partitions, startMs: 1_000_000 })
  open.push(driver)
  return driver
}

const sale = (timeMs: number, region = 'north', amount = 5) => ({
  key: `order-${timeMs}-${region}`,
  value: { region, amount },
  timeMs,
})
const lines = async (driver: TopologyTestDriver) =>
  (await driver.output('lines', { key: textKey(), value: text() }))
    .map(({ value }) => value)
    .join(' ')

test('a record at window end opens the next window', async () => {
  const driver = await start(salesByRegion())
  await driver.pipe('sales', sale(0), sale(59_999), sale(60_000))
  expect((await lines(driver)).split(' ').slice(-2).join(' ')).toBe('north@0=2 north@60000=1')
})

test('rows show key fields, window bounds and values, open windows not final', async () => {
  const driver = await start(salesByRegion(), 3)
  await driver.pipe('sales', sale(1_000), sale(2_000, 'south', 7), sale(61_000, 'south', 1))
  expect(await driver.rows('sales')).toEqual([
    { region: 'north', windowStart: 0, windowEnd: 60_000, final: false, count: 1, amount: 5 },
    { region: 'south', windowStart: 0, windowEnd: 60_000, final: false, count: 1, amount: 7 },
    { region: 'south', windowStart: 60_000, windowEnd: 120_000, final: false, count: 1, amount: 1 },
  ])
})

test('a record is late when end + grace is at or below its stream time, and on time before', async () => {
  const driver = await start(salesByRegion())
  await driver.pipe('sales', sale(0), sale(69_999), sale(1), sale(70_000), sale(2))
  expect(await driver.rows('sales')).toMatchObject([
    { windowStart: 0, count: 2, final: true },
    { windowStart: 60_000, count: 2, final: false },
  ])
  const dead = await driver.output('sales-dead-letters', { key: textKey(), value: json<Sale>() })
  expect(dead).toMatchObject([
    {
      key: 'order-2-north',
      value: { region: 'north' },
      headers: { dl_reason: 'late', dl_offset: '4' },
    },
  ])
})

test('emit on close gives each window once, when the watermark reaches end + grace', async () => {
  const driver = await start(salesByRegion({ emit: 'close' }))
  await driver.pipe('sales', sale(0), sale(5), sale(69_999))
  expect(await lines(driver)).toBe('')
  await driver.pipe('sales', sale(70_000))
  expect(await lines(driver)).toBe('north@0=2')
  await driver.pipe('sales', sale(500_000))
  expect(await lines(driver)).toBe('north@60000=2')
})

test('a hopping record falls into each window that contains it', async () => {
  const driver = await start(salesByRegion({ hop: 20_000 }))
  await driver.pipe('sales', sale(65_000))
  expect(await lines(driver)).toBe('north@20000=1 north@40000=1 north@60000=1')
})

test('windows are dropped when their retention has passed', async () => {
  const driver = await start(salesByRegion())
  await driver.pipe('sales', sale(0), sale(60_000), sale(659_999))
  expect((await driver.rows('sales')).length).toBe(3)
  await driver.pipe('sales', sale(660_000))
  expect((await driver.rows('sales')).map(row => row.windowStart)).toEqual([
    60_000, 600_000, 660_000,
  ])
})

test('the slowest partition holds the watermark, and late is decided by the own partition', async () => {
  const driver = await start(salesByRegion({ emit: 'close' }), 2)
  await driver.pipe('sales', { ...sale(0), partition: 0 }, { ...sale(1), partition: 1 })
  await driver.pipe('sales', { ...sale(900_000), partition: 1 })
  expect(await lines(driver)).toBe('')
  await driver.pipe('sales', { ...sale(2), partition: 0 }, { ...sale(70_000), partition: 0 })
  expect(await lines(driver)).toBe('north@0=3')
})

test('an idle partition leaves the watermark after idleAfter, and its next record is judged by it', async () => {
  const driver = await start(salesByRegion({ emit: 'close' }), 2)
  await driver.pipe('sales', { ...sale(0), partition: 0 }, { ...sale(900_000), partition: 1 })
  await driver.advanceWallClock(1)
  await driver.advanceWallClock(40_000)
  expect(await lines(driver)).toBe('north@0=1')
  await driver.pipe('sales', { ...sale(3), partition: 0 })
  const dead = await driver.output('sales-dead-letters', { key: textKey(), value: json<Sale>() })
  expect(dead.map(({ key }) => key)).toEqual(['order-3-north'])
})

test('a second driver on the same state goes on where the first stopped', async () => {
  const driver = await start(salesByRegion({ emit: 'close' }))
  await driver.pipe('sales', sale(0), sale(70_000))
  await driver.close()
  open.length = 0
  const again = await TopologyTestDriver.open(salesByRegion({ emit: 'close' }), {
    database: driver.database,
    startMs: 1_000_000,
  })
  open.push(again)
  await again.pipe('sales', sale(1), sale(60_001), sale(500_000))
  expect(await lines(again)).toBe('north@0=1 north@60000=2')
  expect(tumbling(1, { graceMs: 0 }).advanceMs).toBe(1)
})

test('null values leave by poison and count for nothing, as in Kafka Streams', async () => {
  const topology = new Topology('plain')
  topology
    .stream('sales', { key: textKey(), value: json<Sale>() })
    .groupByKey({ name: 'by-key', key: textKey() })
    .windowedBy(tumbling(60_000, { graceMs: 0 }))
    .count({ name: 'counts' })
  const driver = await start(topology)
  await driver.pipe('sales', { ...sale(1), value: null }, { ...sale(2), key: null })
  const dead = await driver.output('plain-dead-letters', { key: textKey(), value: text() })
  expect(dead.map(({ headers }) => headers.dl_reason)).toEqual(['poison', 'null-key'])
})

for (const { name, proof } of windowProofs) proofSuite(name, proof)
