/** Commands to orders on two instances that share the tasks, over real HTTP. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { orderStreams } from '../../processors/analytics/event-streams.ts'
import { orderStatusTopology } from '../../processors/analytics/order-status.ts'
import { orderCommands } from '../../processors/orders/ordering.ts'
import { Topology } from '../../streams/index.ts'
import { GroupedService, type Instance } from '../support/grouped-service.ts'
import { mug, OrdersClient, placed, seen } from '../support/orders-client.ts'

const PARTITIONS = 4
const TOPICS = ['orders', 'payments', 'inventory', 'fulfilment', 'order-commands']

let service: GroupedService
let clients: OrdersClient[]

/** Both views in one group, so that either instance has a part of each. */
function shop(): Topology {
  const topology = new Topology('shop')
  const events = orderStreams(topology)
  orderStatusTopology(events)
  orderCommands(topology, events)
  return topology
}

beforeAll(async () => {
  const events = TOPICS.join('.')
  service = await GroupedService.open(shop, TOPICS, PARTITIONS)
  const instances: Instance[] = [
    await service.start({ [events]: [0, 1], outcomes: [2, 3] }),
    await service.start({ [events]: [2, 3], outcomes: [0, 1] }),
  ]
  clients = instances.map(({ address }) => new OrdersClient(address))
})

afterAll(() => service.close())

test('a command is answered by either instance, wherever its order is, and read at the other', async () => {
  for (let i = 0; i < 24; i++) {
    const [one, other] = [clients[i % 2]!, clients[(i + 1) % 2]!]
    const key = { 'Idempotency-Key': `key-${i}` }
    const order = await one.post('/v1/orders', placed, key)
    expect([order.status, order.body.status]).toEqual([201, 'pending'])
    const path = `/v1/orders/${order.body.orderId}`
    const read = await other.get(path, seen(order))
    expect(read.body).toMatchObject({ version: 1, totalMinor: 1000 })
    const match = { 'If-Match': read.headers.get('etag')! }
    // As of a time is to the millisecond.
    await new Promise(resolve => setTimeout(resolve, 2))
    const added = await other.post(`${path}/items`, { items: [mug] }, match)
    expect(added.body).toMatchObject({ version: 2 })
    expect((await one.post(`${path}/items`, { items: [mug] }, match)).status).toBe(412)
    expect((await other.post('/v1/orders', placed, key)).text).toBe(order.text)
    const { body } = await one.get(`${path}/events`, seen(added))
    expect(body.events).toHaveLength(2)
    for (const client of [one, other]) {
      const then = await client.get(`${path}?asOf=${order.body.decidedAt}`, seen(added))
      expect(then.body).toEqual(read.body)
    }
  }
})
