import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { json, Topology, text, textKey, tumbling } from '../../../streams/index.ts'
import { planTopology } from '../../../streams/plan.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'

interface Sale {
  readonly sku: string | null
  readonly quantity: number
}

const LINES = { key: textKey(), value: text() }
const SALES = { key: textKey(), value: json<Sale>() }

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

function shop(kind: 'inner' | 'left' = 'left'): Topology {
  const topology = new Topology('shop')
  const products = topology.globalTable('products', LINES)
  const sales = topology.stream('sales', SALES)
  const joiner = ({ quantity }: Sale, name: string | null) => `${quantity} × ${name}`
  const by = ({ sku, quantity }: Sale) => {
    if (quantity < 0) throw new Error('nobody sells so')
    return sku
  }
  const options = { name: 'named', by }
  const joined =
    kind === 'inner'
      ? sales.joinGlobal(products, joiner, options)
      : sales.leftJoinGlobal(products, joiner, options)
  joined.to('out', LINES)
  return topology
}

async function start(topology = shop(), options = {}): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(topology, { partitions: 3, ...options })
  open.push(driver)
  return driver
}

const product = (key: string, value: string | null, timeMs = 1) => ({ key, value, timeMs })
const sale = (key: string, sku: string | null, quantity = 1) => {
  return { key, value: { sku, quantity }, timeMs: 5 }
}
const out = async (driver: TopologyTestDriver) =>
  (await driver.output('out', LINES)).map(({ key, value }) => `${key}: ${value}`).sort()

/** Keys that are in all partitions. */
const keys = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']

test('a record of any partition finds the rows of all', async () => {
  const driver = await start()
  await driver.pipe('products', ...keys.map(key => product(key, key.toUpperCase())))
  const pairs = keys.flatMap(key => keys.map(sku => sale(`${key}${sku}`, sku)))
  await driver.pipe('sales', ...pairs)
  expect(await out(driver)).toEqual(
    pairs.map(({ key, value }) => `${key}: 1 × ${value.sku!.toUpperCase()}`).sort(),
  )
})

test('rows change and go for all of them, and are there after a restart', async () => {
  let driver = await start()
  await driver.pipe('products', product('p', 'old'), product('q', 'gone'))
  await driver.pipe('products', product('p', 'new'), product('q', null))
  await driver.close()
  open.pop()
  driver = await start(shop(), { database: driver.database })
  await driver.pipe('sales', ...keys.flatMap(key => [sale(key, 'p'), sale(key, 'q')]))
  expect(await out(driver)).toEqual(
    keys.flatMap(key => [`${key}: 1 × new`, `${key}: 1 × null`]).sort(),
  )
})

test('inner leaves out what finds nothing; a key that is null finds nothing', async () => {
  const driver = await start(shop('inner'))
  await driver.pipe('products', product('p', 'mug'))
  await driver.pipe('sales', sale('1', 'p'), sale('2', 'x'), sale('3', null), sale('4', 'p', 2))
  expect(await out(driver)).toEqual(['1: 1 × mug', '4: 2 × mug'])
})

test('a function that throws puts its record aside', async () => {
  const driver = await start()
  await driver.pipe('sales', sale('1', 'p', -1), sale('2', 'p'))
  expect(await out(driver)).toEqual(['2: 1 × null'])
  const dead = await driver.output('shop-dead-letters', LINES)
  expect(dead.map(({ headers }) => `${headers.dl_reason} ${headers.dl_step}`)).toEqual([
    'poison named',
  ])
})

test('windows below take the time of the stream alone, and close without the table', async () => {
  const topology = new Topology('shop')
  const products = topology.globalTable('products', LINES)
  topology
    .stream('sales', SALES)
    .joinGlobal(products, ({ quantity }) => quantity, { name: 'named', by: ({ sku }) => sku })
    .groupBy(() => 'all', { name: 'together', key: textKey('all'), partitions: 1 })
    .windowedBy(tumbling(10, { graceMs: 0 }))
    .aggregate({
      name: 'sold',
      initial: () => 0,
      add: (sum, quantity) => sum + quantity,
      retentionMs: 100,
    })
    .view({
      name: 'sold',
      description: 'Sold',
      value: { sold: Type.Integer() },
      row: sold => ({ sold }),
    })
  const driver = await start(topology, { partitions: 1 })
  await driver.pipe('products', product('p', 'mug', 1))
  await driver.pipe('sales', sale('1', 'p'), { ...sale('2', 'p'), timeMs: 10 })
  expect(await driver.rows('sold')).toMatchObject([
    { windowStart: 0, sold: 1, final: true },
    { windowStart: 10, sold: 1, final: false },
  ])
})

test('the topics may have different numbers of partitions', () => {
  const partitions = new Map([
    ['sales', 2],
    ['products', 5],
  ])
  const { subTopologies } = planTopology(shop(), partitions)
  expect(subTopologies.map(({ name, partitions }) => `${name}: ${partitions}`)).toEqual([
    'products: 5',
    'sales.named-copies: 2',
  ])
})
