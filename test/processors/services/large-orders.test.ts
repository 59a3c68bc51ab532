/** Fault 68: an order of more items than a row can hold: others go on, and all judge alike. */
import { afterEach, expect, test } from 'vitest'
import type { BusinessEvent, OrderItem } from '../../../contracts/events.ts'
import { orderKey } from '../../../processors/analytics/event-streams.ts'
import { itemsBytesMax } from '../../../processors/orders/order-items.ts'
import { serviceTopologies } from '../../../processors/services/services.ts'
import { text } from '../../../streams/index.ts'
import type { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { sagaRecord, storyStartMs as T } from '../../support/saga.ts'
import {
  appendRecords,
  closeServices,
  finish,
  openServices,
  saidByServices,
  writtenEvents,
} from '../../support/saga-run.ts'

const opened: TopologyTestDriver[] = []
afterEach(() => closeServices(opened.splice(0)))

/** Items that come to about so many bytes as JSON. */
function itemsOf(bytes: number): OrderItem[] {
  const item = (i: number) => ({
    ...{ sku: `sku-${i}`, category: 'books', quantity: 1, unitPriceMinor: 1 },
  })
  const count = Math.floor(bytes / JSON.stringify(item(10_000)).length)
  return Array.from({ length: count }, (_, i) => item(i))
}

const created = (orderId: string, items: OrderItem[], totalMinor = 1000): BusinessEvent => ({
  type: 'OrderCreated',
  ...{ orderId, customerId: 'c-1', region: 'uk', currency: 'GBP', items },
  ...{ totalMinor, createdAt: T, channel: null },
})
const added = (orderId: string, nth: number, items: OrderItem[]): BusinessEvent => ({
  type: 'OrderItemsAdded',
  ...{ orderId, items, totalMinor: 1000 * (nth + 1), addedAt: T + nth },
})

test.each(['choreographed', 'orchestrated'] as const)(
  '%s: what is too much is put aside by every service alike, and other orders go on',
  async saga => {
    const topologies = serviceTopologies({ seed: 7, settleMs: 0, saga, openingStock: 1_000_000 })
    const drivers = await openServices(topologies, { partitions: 1 })
    opened.push(...drivers)
    const third = itemsOf(itemsBytesMax * 0.4)
    const events = [
      created('large', itemsOf(900_000)),
      created('small', itemsOf(100)),
      created('grown', itemsOf(100)),
      ...[1, 2, 3].map(nth => added('grown', nth, third)),
      // However little: its total includes what was put aside.
      added('grown', 4, itemsOf(100)),
      added('small', 1, itemsOf(100)),
    ]
    const records = events.map((event, i) => sagaRecord(event, `e${i}`))
    await appendRecords(drivers[0]!.log, records)
    await finish(drivers)
    const said = saidByServices(await writtenEvents(drivers[0]!.log)).map(({ event }) => event)
    const of = (id: string) => said.filter(event => 'orderId' in event && event.orderId === id)
    // Those that hold no items hear of it, too; nobody carries it through.
    const heard = ['FraudSuspected', 'NotificationRequested']
    expect(of('large').map(({ type }) => type)).toEqual(heard)
    for (const [id, amountMinor] of [
      ['small', 2000],
      ['grown', 3000],
    ] as const) {
      const paid = of(id).filter(({ type }) => type === 'PaymentAuthorized')
      expect(paid).toMatchObject([{ amountMinor }])
      const ends = of(id)
        .map(({ type }) => type)
        .filter(type => type === 'OrderFulfilled' || type === 'PaymentRefunded')
      expect(ends).toHaveLength(1)
    }
    const aside: Record<string, string[]> = {}
    for (const driver of drivers) {
      const found = await driver.output(`${driver.application}-dead-letters`, {
        key: orderKey,
        value: text(),
      })
      aside[driver.application] = found.map(({ key, headers }) => `${headers.dl_reason} ${key}`)
    }
    const grown = ['overflow grown', 'overflow grown']
    const wanted = ['overflow large', ...grown]
    expect(aside).toMatchObject({
      payment: saga === 'choreographed' ? wanted : grown,
      inventory: wanted,
      search: wanted,
      fulfilment: [],
      notification: [],
      order: [],
    })
    if (saga === 'orchestrated') expect(aside.orchestrator).toEqual(['overflow large'])
  },
)

test.each([
  ['created', 900_000, []],
  ['added to', 100, [0.6, 0.6]],
])(
  'what an earlier release charged of an order %s with too much is given back',
  async (_, bytes, more) => {
    const topologies = serviceTopologies({ seed: 7, settleMs: 0, openingStock: 1_000_000 })
    const inventory = topologies.filter(({ application }) => application === 'inventory')
    const [driver] = await openServices(inventory, { partitions: 1 })
    opened.push(driver!)
    const amountMinor = 1000 * (more.length + 1)
    const paid: BusinessEvent = {
      type: 'PaymentAuthorized',
      ...{ paymentId: 'p-large-1', orderId: 'large', amountMinor, currency: 'GBP' },
      ...{ method: 'card', authorizedAt: T + 10 },
    }
    const added1 = more.map((share, i) => added('large', i + 1, itemsOf(itemsBytesMax * share)))
    const events = [paid, created('large', itemsOf(bytes)), ...added1]
    for (const [i, event] of events.entries()) {
      await appendRecords(driver!.log, [sagaRecord(event, `e${i}`)])
      await driver!.process()
    }
    const said = saidByServices(await writtenEvents(driver!.log)).map(({ event }) => event)
    expect(said).toMatchObject([
      { type: 'InventoryRejected', orderId: 'large', sku: 'sku-0', reason: 'too-many-items' },
    ])
  },
)

test.each([0, 1, 2])(
  'an order created twice, first with too much: paid as the %s., it gets the other',
  async at => {
    const topologies = serviceTopologies({ seed: 7, settleMs: 0, openingStock: 1_000_000 })
    const inventory = topologies.filter(({ application }) => application === 'inventory')
    const [driver] = await openServices(inventory, { partitions: 1 })
    opened.push(driver!)
    const events = [created('twice', itemsOf(900_000), 9_000_000), created('twice', itemsOf(100))]
    events.splice(at, 0, {
      type: 'PaymentAuthorized',
      ...{ paymentId: 'p-twice-1', orderId: 'twice', amountMinor: 1000, currency: 'GBP' },
      ...{ method: 'card', authorizedAt: T + 10 },
    })
    for (const [i, event] of events.entries()) {
      await appendRecords(driver!.log, [sagaRecord(event, `e${i}`)])
      await driver!.process()
    }
    const said = saidByServices(await writtenEvents(driver!.log)).map(({ event }) => event.type)
    expect(said.filter(type => type !== 'StockReceived')).toEqual(['InventoryReserved'])
  },
)
