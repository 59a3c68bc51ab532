import { afterEach, expect, test } from 'vitest'
import { type AsOfOptions, json, Topology, text, textKey } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { proofSuite } from '../../oracle/harness.ts'
import { asOfProofs } from '../../oracle/proofs/as-of.ts'

const LINES = { key: textKey(), value: text() }
const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

const joiner = (order: string, price: string | null) => {
  if (order === 'bad') throw new Error('no such thing')
  return `${order} at ${price}`
}

function priced(options: Partial<AsOfOptions<string, string>> = {}): Topology {
  const topology = new Topology('prices')
  const orders = topology.stream('orders', LINES)
  const prices = topology.table('prices', { name: 'prices', ...LINES })
  orders.leftJoinAsOf(prices, joiner, { name: 'priced', graceMs: 10, ...options }).to('out', LINES)
  return topology
}

async function start(topology = priced(), partitions = 1): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(topology, { partitions })
  open.push(driver)
  return driver
}

const at = (timeMs: number, value: string | null, key = 'mug') => ({ key, value, timeMs })
const out = async (driver: TopologyTestDriver) =>
  (await driver.output('out', LINES)).map(({ value, timeMs }) => `${value} @${timeMs}`)

test('a record sees the row of its own time, whichever is read first', async () => {
  const prices = [at(100, '5'), at(200, '6'), at(300, null), at(400, '7')]
  const orders = [99, 100, 199, 200, 300, 400].map(time => at(time, 'one'))
  for (const pricesFirst of [true, false]) {
    const driver = await start()
    if (pricesFirst) await driver.pipe('prices', ...prices, at(1000, '8', 'end'))
    await driver.pipe('orders', ...orders, at(1000, 'end', 'end'))
    if (!pricesFirst) await driver.pipe('prices', ...prices, at(1000, '8', 'end'))
    expect(await out(driver)).toEqual([
      'one at null @99',
      'one at 5 @100',
      'one at 5 @199',
      'one at 6 @200',
      'one at null @300',
      'one at 7 @400',
    ])
  }
})

test('a deletion overrules an older row that comes after it, however epochs are cut', async () => {
  // Both come within the grace of what the partition has seen, and hold from there on.
  const prices = [at(100, 'A'), at(1000, 'x', 'other'), at(200, null), at(150, 'B')]
  for (const isCut of [false, true]) {
    const driver = await start()
    await driver.pipe('orders', at(1000, 'o', 'other'))
    for (const batch of isCut ? prices.map(price => [price]) : [prices]) {
      await driver.pipe('prices', ...batch)
    }
    await driver.pipe('orders', at(1005, 'one'))
    await driver.pipe('prices', at(2000, 'x', 'other'))
    await driver.pipe('orders', at(2000, 'end', 'other'))
    expect(await out(driver)).toContain('one at null @1005')
  }
})

test('a record waits until both have passed its time by more than the grace', async () => {
  const driver = await start()
  await driver.pipe('orders', at(100, 'one'), at(500, 'two'))
  await driver.pipe('prices', at(110, '5', 'cup'))
  expect(await out(driver)).toEqual([])
  // Within the grace: the row of its time after all.
  await driver.pipe('prices', at(100, '5'), at(111, '5', 'cup'))
  expect(await out(driver)).toEqual(['one at 5 @100'])
})

test('a table that says nothing more holds records until it is idle', async () => {
  const driver = await start()
  await driver.pipe('prices', at(50, '5'))
  await driver.pipe('orders', at(100, 'one'), at(500, 'two'))
  expect(await out(driver)).toEqual([])
  await driver.advanceWallClock(60_000)
  expect(await out(driver)).toEqual(['one at 5 @100'])
})

test('a row that comes later than the grace holds from its stream time - grace on', async () => {
  const driver = await start()
  await driver.pipe('prices', at(1000, '1', 'cup'), at(100, '5'))
  await driver.pipe('orders', at(989, 'one'), at(990, 'two'), at(1100, 'x', 'end'))
  await driver.pipe('prices', at(1100, 'x', 'end'))
  expect(await out(driver)).toEqual(['one at null @989', 'two at 5 @990'])
})

test('an older row that comes after a newer one replaces nothing', async () => {
  const driver = await start()
  await driver.pipe('prices', at(100, 'new'), at(95, 'old'), at(1100, 'x', 'end'))
  await driver.pipe('orders', at(95, 'one'), at(100, 'two'), at(1100, 'x', 'end'))
  expect(await out(driver)).toEqual(['one at old @95', 'two at new @100'])
})

test('told not to wait, a record sees what has been read of its time', async () => {
  const driver = await start(priced({ waits: false }))
  await driver.pipe('prices', at(100, '5'), at(200, '6'))
  await driver.pipe('orders', at(150, 'one'), at(250, 'two'))
  await driver.pipe('prices', at(240, '7'))
  await driver.pipe('orders', at(245, 'three'))
  expect(await out(driver)).toEqual(['one at 5 @150', 'two at 6 @250', 'three at 7 @245'])
})

test('late records, null keys and what throws are put aside, with their reason', async () => {
  const driver = await start()
  await driver.pipe('orders', at(100, 'one'), at(89, 'late'), at(95, 'bad'), at(96, null))
  await driver.pipe('orders', { ...at(97, 'x'), key: null }, at(500, 'end', 'end'))
  await driver.pipe('prices', { ...at(97, 'x'), key: null }, at(500, '1', 'end'))
  expect(await out(driver)).toEqual(['one at null @100'])
  const dead = await driver.output('prices-dead-letters', { key: textKey(), value: text() })
  const reasons = dead.map(({ headers }) => `${headers.dl_reason} ${headers.dl_topic}`).sort()
  // The table counts its own, once.
  expect(reasons).toEqual([
    'late orders',
    'null-key orders',
    'null-key prices',
    'poison orders',
    'poison orders',
  ])
})

test('versions that nobody can ask for any more are not kept', async () => {
  const driver = await start()
  for (let i = 1; i <= 50; i++) {
    await driver.pipe('prices', at(i * 100, `${i}`))
    await driver.pipe('orders', at(i * 100, 'one'))
  }
  const store = driver.engine.assembly.rowStore<readonly unknown[]>('priced-versions', 0)!
  await store.prefetch([textKey().encode('mug')])
  expect(store.get(textKey().encode('mug'))!.length).toBeLessThan(4)
  expect((await out(driver)).length).toBe(49)
})

test('what cannot be joined so is refused, with what to do', () => {
  const topology = new Topology('refused')
  const orders = topology.stream('orders', LINES)
  const prices = topology.table('prices', { name: 'prices', ...LINES })
  const counts = orders.groupByKey({ name: 'unused', key: textKey() }).count({ name: 'counts' })
  const options = { name: 'priced', graceMs: 10 }
  const joinWith = (table: typeof prices, more = {}) =>
    orders.joinAsOf(table, joiner, { ...options, ...more })
  expect(() => joinWith(counts as never)).toThrow(/counts is computed; only tables of a topic/)
  expect(() => joinWith(prices, { graceMs: -1 })).toThrow(/graceMs must be a whole number/)
  expect(() => orders.selectKey(key => key).joinAsOf(prices, joiner, options)).toThrow(/re-keyed/)
  expect(() => orders.mapValues(one => one).joinAsOf(prices, joiner, options)).toThrow(/written/)
  const written = { key: { ...textKey(), name: 'other' }, value: json<string>() }
  expect(() => joinWith(prices, { written })).toThrow(/keys as other, prices as text/)
})

for (const { name, proof } of asOfProofs) proofSuite(name, proof)
