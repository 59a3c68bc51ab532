/**
 * Counts orders and their value by region and minute, in memory, the clock in your hand.
 * Run it: npx node examples/1-orders-per-minute.ts
 */
import { Type } from 'typebox'
import { fieldsKey, json, Topology, textKey, tumbling } from '../streams/index.ts'
import { TopologyTestDriver } from '../streams/testing/index.ts'

interface Order {
  region: string
  total: number
}

const topology = new Topology('orders')
topology
  .stream('orders', { key: textKey(), value: json<Order>() })
  .groupBy(order => ({ region: order.region }), { name: 'by-region', key: fieldsKey('region') })
  .windowedBy(tumbling(60_000, { graceMs: 10_000 }))
  .aggregate({
    name: 'order-volume',
    retentionMs: 3_600_000, // closed windows can be asked for an hour
    initial: () => ({ orders: 0, total: 0 }),
    add: (sum, order) => ({ orders: sum.orders + 1, total: sum.total + order.total }),
  })
  .view({
    name: 'order-volume',
    description: 'Orders and their value by region and minute',
    value: { orders: Type.Integer(), total: Type.Integer() },
  })

const driver = await TopologyTestDriver.open(topology)
await driver.pipe(
  'orders',
  { key: 'a', value: { region: 'north', total: 30 }, timeMs: 1_000 },
  { key: 'b', value: { region: 'north', total: 12 }, timeMs: 59_999 },
  { key: 'c', value: { region: 'south', total: 5 }, timeMs: 60_000 },
  { key: 'd', value: { region: 'south', total: 7 }, timeMs: 70_000 },
)
console.table(await driver.rows('order-volume'))
await driver.close()
