import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { committedRows } from '../../../state/committed-rows.ts'
import { json, Topology, text, textKey, tumbling } from '../../../streams/index.ts'
import { planTopology } from '../../../streams/plan.ts'
import { storeInDatabase } from '../../../streams/task-parts.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { proofSuite } from '../../oracle/harness.ts'
import { foreignKeyProofs } from '../../oracle/proofs/foreign-key.ts'

interface Order {
  readonly customer: string | null
  readonly total: number
}

const LINES = { key: textKey('id'), value: text() }
const ORDERS = { key: textKey('id'), value: json<Order>() }
const value = { text: Type.String() }
const row = (line: string) => ({ text: line })

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

function shop(kind: 'inner' | 'left'): Topology {
  const topology = new Topology('shop')
  const orders = topology.table('orders', { name: 'orders', ...ORDERS })
  const customers = topology.table('customers', { name: 'customers', ...LINES })
  const joiner = ({ total }: Order, name: string | null) => `${total} by ${name}`
  const options = { name: 'named', foreignKey: ({ customer }: Order) => customer }
  const joined =
    kind === 'inner'
      ? orders.joinForeign(customers, joiner, options)
      : orders.leftJoinForeign(customers, joiner, options)
  joined.view({ name: 'named', description: 'Orders with names', value, row })
  joined.toStream().to('changes', LINES)
  return topology
}

async function start(kind: 'inner' | 'left', partitions = 2) {
  const driver = await TopologyTestDriver.open(shop(kind), { partitions })
  open.push(driver)
  let timeMs = 0
  const order = (id: string, customer: string | null, total = 1) =>
    driver.pipe('orders', { key: id, value: { customer, total }, timeMs: ++timeMs })
  const remove = (topic: string, id: string) =>
    driver.pipe(topic, { key: id, value: null, timeMs: ++timeMs })
  const customer = (id: string, name: string) =>
    driver.pipe('customers', { key: id, value: name, timeMs: ++timeMs })
  const rows = async () => (await driver.rows('named')).map(({ id, text }) => `${id}: ${text}`)
  return { driver, order, remove, customer, rows }
}

test('a left row whose value has no bytes is a row: it follows what it refers to', async () => {
  const topology = new Topology('shop')
  const left = topology.table('left', { name: 'left', ...LINES })
  const right = topology.table('right', { name: 'right', ...LINES })
  const options = { name: 'named', foreignKey: () => 'c', value: text() }
  left
    .joinForeign(right, (mine, theirs) => `${mine}+${theirs}`, options)
    .toStream()
    .to('changes', LINES)
  const driver = await TopologyTestDriver.open(topology, { partitions: 2 })
  open.push(driver)
  await driver.pipe('right', { key: 'c', value: 'A', timeMs: 1 })
  await driver.pipe('left', { key: 'o1', value: '', timeMs: 2 })
  await driver.pipe('right', { key: 'c', value: 'B', timeMs: 3 })
  const changes = (await driver.output('changes', LINES)).map(({ value: found }) => found)
  expect(changes).toEqual(['+A', '+B'])
})

test('each row gets the row it refers to, and follows it', async () => {
  const { order, customer, rows } = await start('inner')
  await order('o1', 'c1')
  expect(await rows()).toEqual([])
  await customer('c1', 'Ann')
  await order('o2', 'c1', 2)
  await order('o3', 'c2', 3)
  expect(await rows()).toEqual(['o1: 1 by Ann', 'o2: 2 by Ann'])
  await customer('c1', 'Anna')
  expect(await rows()).toEqual(['o1: 1 by Anna', 'o2: 2 by Anna'])
})

/** How many rows are kept beside those that they refer to. */
async function kept({ database }: TopologyTestDriver, partitions = 2): Promise<number> {
  let count = 0
  for (let partition = 0; partition < partitions; partition++) {
    const name = storeInDatabase('shop', 'named-join')
    const codec = { encode: (bytes: Buffer) => bytes, decode: (bytes: Buffer) => bytes }
    const rows = committedRows({ name, partition, codec, reader: database })
    for await (const chunk of rows.scan({})) count += chunk.length
  }
  return count
}

test('a row that refers to another one has that one, and no more the one before', async () => {
  const { driver, order, customer, rows } = await start('inner')
  await customer('c1', 'Ann')
  await customer('c2', 'Bob')
  await order('o1', 'c1')
  await order('o1', 'c2')
  expect(await rows()).toEqual(['o1: 1 by Bob'])
  await customer('c1', 'Anna')
  expect(await rows()).toEqual(['o1: 1 by Bob'])
  await order('o1', 'c3')
  expect(await rows()).toEqual([])
  await order('o1', 'c1')
  expect(await rows()).toEqual(['o1: 1 by Anna'])
  expect(await kept(driver)).toBe(1)
})

test('deleted on either side, a row is gone; written again, it is back', async () => {
  const { order, customer, remove, rows } = await start('inner')
  await customer('c1', 'Ann')
  await order('o1', 'c1')
  await remove('customers', 'c1')
  expect(await rows()).toEqual([])
  await customer('c1', 'Ann')
  expect(await rows()).toEqual(['o1: 1 by Ann'])
  await remove('orders', 'o1')
  expect(await rows()).toEqual([])
  await customer('c1', 'Anna')
  expect(await rows()).toEqual([])
  await order('o1', 'c1', 2)
  expect(await rows()).toEqual(['o1: 2 by Anna'])
})

test('left: a row for each row, with null where it refers to nothing that is there', async () => {
  const { order, customer, remove, rows } = await start('left')
  await order('o1', 'c1')
  await order('o2', null, 2)
  expect(await rows()).toEqual(['o1: 1 by null', 'o2: 2 by null'])
  await customer('c1', 'Ann')
  expect(await rows()).toEqual(['o1: 1 by Ann', 'o2: 2 by null'])
  await order('o1', null, 1)
  expect(await rows()).toEqual(['o1: 1 by null', 'o2: 2 by null'])
  await order('o2', 'c1', 2)
  await remove('customers', 'c1')
  expect(await rows()).toEqual(['o1: 1 by null', 'o2: 2 by null'])
  await remove('orders', 'o1')
  await remove('orders', 'o2')
  expect(await rows()).toEqual([])
})

test('one row that many refer to changes all of them, and others not', async () => {
  const { driver, customer, rows } = await start('inner', 4)
  const orders = Array.from({ length: 300 }, (_, i) => ({
    key: `o${i}`,
    value: { customer: `c${i % 3}`, total: i },
    timeMs: i,
  }))
  await driver.pipe('orders', ...orders)
  for (const i of [0, 1, 2]) await customer(`c${i}`, `n${i}`)
  await driver.output('changes', LINES)
  await customer('c1', 'new')
  const changed = await driver.output('changes', LINES)
  expect(changed.length).toBe(100)
  expect(changed.every(({ value }) => value!.endsWith('by new'))).toBe(true)
  expect((await rows()).length).toBe(300)
})

test('keys of which one begins as another are not mistaken for each other', async () => {
  const { order, customer, rows } = await start('inner')
  for (const id of ['c', 'c1', 'c\0', 'c\x01']) await customer(id, JSON.stringify(id))
  await order('o1', 'c')
  await order('o2', 'c1')
  await order('o3', 'c\0')
  await order('o4', 'c\x01')
  await customer('c', 'changed')
  expect(await rows()).toEqual([
    'o1: 1 by changed',
    'o2: 1 by "c1"',
    'o3: 1 by "c\\u0000"',
    'o4: 1 by "c\\u0001"',
  ])
})

test('a function that throws puts its record aside, and the row stays as it was', async () => {
  const topology = new Topology('shop')
  const orders = topology.table('orders', { name: 'orders', ...ORDERS })
  const customers = topology.table('customers', { name: 'customers', ...LINES })
  const foreignKey = ({ customer, total }: Order) => {
    if (total < 0) throw new Error('no such order')
    return customer
  }
  orders
    .joinForeign(customers, ({ total }, name) => `${total} by ${name}`, {
      name: 'named',
      foreignKey,
    })
    .view({ name: 'named', description: 'Orders with names', value, row })
  const driver = await TopologyTestDriver.open(topology)
  open.push(driver)
  await driver.pipe('customers', { key: 'c1', value: 'Ann', timeMs: 1 })
  const order = (total: number) => ({ key: 'o1', value: { customer: 'c1', total }, timeMs: 2 })
  await driver.pipe('orders', order(1), order(-1))
  await driver.pipe('orders', order(-1))
  const dead = await driver.output('shop-dead-letters', LINES)
  expect(dead.map(({ headers }) => `${headers.dl_reason} ${headers.dl_step}`)).toContain(
    'poison named-subscribe',
  )
  await driver.pipe('orders', order(2))
  expect(await driver.rows('named')).toMatchObject([{ text: '2 by Ann' }])
})

test('the tables may have different numbers of partitions; the result has those of the left', () => {
  const partitions = new Map([
    ['orders', 2],
    ['customers', 5],
  ])
  const { subTopologies } = planTopology(shop('inner'), partitions)
  expect(subTopologies.map(({ name, partitions }) => `${name}: ${partitions}`)).toEqual([
    'orders: 2',
    'customers.named-messages: 5',
    'named-responses: 2',
  ])
})

test('a table with windows is refused', () => {
  const topology = new Topology('shop')
  const orders = topology.table('orders', { name: 'orders', ...ORDERS })
  const counts = topology
    .stream('visits', LINES)
    .groupByKey({ name: 'unused', key: textKey() })
    .windowedBy(tumbling(10, { graceMs: 0 }))
    .count({ name: 'counts' })
  const options = { name: 'named', foreignKey: () => null }
  expect(() => orders.joinForeign(counts, () => '', options)).toThrow(/counts has windows/)
})

for (const { name, proof } of foreignKeyProofs) proofSuite(name, proof)
