/**
 * A table whose rows refer to rows of another one: orders with the names of their customers, which
 * change whenever either does. In memory: npx node examples/5-orders-with-customers.ts
 */
import { Type } from 'typebox'
import { json, Topology, text, textKey } from '../streams/index.ts'
import { TopologyTestDriver } from '../streams/testing/index.ts'

interface Order {
  readonly customer: string
  readonly total: number
}

const topology = new Topology('shop')
const orders = topology.table('orders', {
  name: 'orders',
  key: textKey('order'),
  value: json<Order>(),
})
const customers = topology.table('customers', {
  name: 'customers',
  key: textKey('customer'),
  value: text(),
})
orders
  .joinForeign(customers, ({ total }, name) => ({ total, name }), {
    name: 'named-orders',
    foreignKey: ({ customer }) => customer,
  })
  .view({
    name: 'named-orders',
    description: 'Orders with the names of their customers',
    value: { total: Type.Integer(), name: Type.String() },
  })

const driver = await TopologyTestDriver.open(topology, { partitions: 4 })
const order = (key: string, customer: string, total: number, timeMs: number) => {
  return { key, value: { customer, total }, timeMs }
}
await driver.pipe('customers', { key: 'c1', value: 'Ann', timeMs: 1 })
await driver.pipe('orders', order('o1', 'c1', 10, 2), order('o2', 'c1', 20, 3))
console.log(await driver.rows('named-orders'))
await driver.pipe('customers', { key: 'c1', value: 'Anna', timeMs: 4 })
console.log(await driver.rows('named-orders'))
await driver.close()
