/** What each service does, one at a time, with the others played by the test. */
import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import type { BusinessEvent } from '../../../contracts/events.ts'
import { eventsOnce } from '../../../processors/analytics/event-streams.ts'
import { fraudTopology } from '../../../processors/services/fraud.ts'
import { fulfilmentTopology } from '../../../processors/services/fulfilment.ts'
import { inventoryTopology } from '../../../processors/services/inventory.ts'
import { notificationTopology } from '../../../processors/services/notification.ts'
import { orderTopology } from '../../../processors/services/order.ts'
import { paymentTopology } from '../../../processors/services/payment.ts'
import { serviceTopologies } from '../../../processors/services/services.ts'
import {
  defaultServiceSettings,
  type ServiceSettings,
} from '../../../processors/services/settings.ts'
import { Topology, textKey } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { Random } from '../../support/random.ts'
import { customersStory, minuteMs, sagaRecord, storyStartMs } from '../../support/saga.ts'
import { checkBooks } from '../../support/saga-check.ts'
import {
  appendRecords,
  closeServices,
  finish,
  openServices,
  saidByServices,
  settle,
  writtenEvents,
} from '../../support/saga-run.ts'

const T = storyStartMs
const settings: ServiceSettings = { ...defaultServiceSettings, seed: 7 }
const opened: TopologyTestDriver[] = []
afterEach(() => closeServices(opened.splice(0)))

async function open(service: (settings: ServiceSettings) => Topology, own = settings) {
  const [driver] = await openServices([service(own)], { partitions: 1 })
  opened.push(driver!)
  return driver!
}

/** Tells a service something; what it says in return is read by `said`. */
async function tell(driver: TopologyTestDriver, ...events: readonly BusinessEvent[]) {
  for (const event of events) {
    const id = `${'orderId' in event ? event.orderId : event.type}.${event.type}`
    await appendRecords(driver.log, [sagaRecord(event, id)])
    await settle([driver])
  }
}

async function said(driver: TopologyTestDriver) {
  const events = saidByServices(await writtenEvents(driver.log))
  return events.sort((a, b) => a.timeMs - b.timeMs).map(({ event }) => event)
}

const types = async (driver: TopologyTestDriver) => (await said(driver)).map(({ type }) => type)

async function pass(driver: TopologyTestDriver, ms: number) {
  driver.tick(ms)
  await settle([driver])
}

const item = { sku: 'book', category: 'books', quantity: 2, unitPriceMinor: 500 }
const created = (orderId: string, createdAt = T): BusinessEvent => ({
  type: 'OrderCreated',
  orderId,
  customerId: 'c-1',
  region: 'uk',
  currency: 'GBP',
  items: [item],
  totalMinor: 1000,
  createdAt,
  channel: null,
})
const added = (orderId: string, addedAt: number): BusinessEvent => ({
  type: 'OrderItemsAdded',
  orderId,
  items: [{ ...item, sku: 'pen', quantity: 1 }],
  totalMinor: 1500,
  addedAt,
})
const cancelled = (orderId: string, cancelledAt: number): BusinessEvent => ({
  type: 'OrderCancelled',
  orderId,
  reason: 'changed-mind',
  cancelledAt,
})
const authorized = (orderId: string, amountMinor = 1000): BusinessEvent => ({
  type: 'PaymentAuthorized',
  paymentId: `p-${orderId}-1`,
  orderId,
  amountMinor,
  currency: 'GBP',
  method: 'card',
  authorizedAt: T + minuteMs,
})
const declined = (orderId: string, attempt: number): BusinessEvent => ({
  type: 'PaymentDeclined',
  paymentId: `p-${orderId}-${attempt}`,
  orderId,
  amountMinor: 1000,
  currency: 'GBP',
  method: 'card',
  reason: 'expired-card',
  declinedAt: T + attempt * 1000,
})
const failed = (orderId: string, reason = 'parcel-lost'): BusinessEvent => ({
  type: 'FulfilmentFailed',
  orderId,
  reason,
  failedAt: T + 2 * minuteMs,
})
const fulfilled = (orderId: string): BusinessEvent => ({
  type: 'OrderFulfilled',
  orderId,
  carrier: 'blue-freight',
  fulfilledAt: T + 2 * minuteMs,
})
const reserved = (orderId: string): BusinessEvent => ({
  type: 'InventoryReserved',
  orderId,
  items: [{ sku: 'book', quantity: 2 }],
  reservedAt: T + minuteMs,
})
const shipped = (orderId: string): BusinessEvent => ({
  type: 'OrderShipped',
  orderId,
  tracking: 'BL1',
  shippedAt: T + 2 * minuteMs,
})
const rejected = (orderId: string): BusinessEvent => ({
  type: 'InventoryRejected',
  orderId,
  sku: 'book',
  reason: 'out-of-stock',
  rejectedAt: T + minuteMs,
})
const received = (quantity: number): BusinessEvent => ({
  type: 'StockReceived',
  sku: 'book',
  quantity,
  receivedAt: T,
})

test('payment: what was added before the charge is charged, what comes later is not', async () => {
  const driver = await open(paymentTopology)
  await tell(driver, created('o-1'), added('o-1', T + 1000))
  expect(await said(driver)).toEqual([])
  await pass(driver, 10 * minuteMs)
  expect(await said(driver)).toMatchObject([
    { type: 'PaymentAuthorized', orderId: 'o-1', amountMinor: 1500, currency: 'GBP' },
  ])
  await tell(driver, added('o-1', T + 2000))
  expect(await driver.rows('order-payments')).toMatchObject([
    { orderId: 'o-1', state: 'authorized', amountMinor: 1500 },
  ])
})

test('payment: a decision waits for five minutes of event time, and not for the clock', async () => {
  const driver = await open(paymentTopology)
  await tell(driver, created('o-1'), created('o-2', T + 5 * minuteMs))
  expect(await said(driver)).toEqual([])
  await tell(driver, created('o-3', T + 6 * minuteMs))
  expect(await types(driver)).toEqual(['PaymentAuthorized'])
})

test('payment: an order that was cancelled before the charge is not charged', async () => {
  const driver = await open(paymentTopology)
  await tell(driver, cancelled('o-1', T + 1), created('o-1'))
  await pass(driver, 10 * minuteMs)
  expect(await said(driver)).toEqual([])
  expect(await driver.rows('order-payments')).toMatchObject([{ state: 'void', amountMinor: 0 }])
})

test('payment: a failure gives the money back once, however often it is told', async () => {
  const driver = await open(paymentTopology)
  await tell(driver, failed('o-1'), created('o-1'), failed('o-1'))
  await pass(driver, 10 * minuteMs)
  expect(await types(driver)).toEqual(['PaymentAuthorized', 'PaymentRefunded'])
  await tell(driver, rejected('o-1'), failed('o-1', 'carrier-strike'))
  const [payment, refund, ...more] = await said(driver)
  expect(payment).toMatchObject({ type: 'PaymentAuthorized', amountMinor: 1000 })
  expect(refund).toMatchObject({
    type: 'PaymentRefunded',
    paymentId: (payment as { paymentId: string }).paymentId,
    amountMinor: 1000,
    reason: 'parcel-lost',
  })
  expect(more).toEqual([])
})

test('what a service says tells its cause, its story and who speaks', async () => {
  const driver = await open(paymentTopology)
  await tell(driver, created('o-1'))
  await pass(driver, 10 * minuteMs)
  const [{ headers, event, timeMs }] = saidByServices(await writtenEvents(driver.log)) as [
    Awaited<ReturnType<typeof writtenEvents>>[number],
  ]
  expect(event).toMatchObject({ type: 'PaymentAuthorized', authorizedAt: timeMs })
  expect(headers).toEqual({
    ce_id: 'o-1.payment.PaymentAuthorized.1',
    ce_type: 'PaymentAuthorized',
    ce_source: '/services/payment',
    ce_time: new Date(timeMs).toISOString(),
    ce_specversion: '1.0',
    correlationid: 'o-1',
    causationid: 'o-1.OrderCreated',
    actor: 'payment-service',
  })
})

test('inventory: a paid order gets all of its items or none', async () => {
  const driver = await open(inventoryTopology, { ...settings, openingStock: 0 })
  await tell(driver, received(3), authorized('o-1'), created('o-1'))
  await tell(driver, created('o-2'), authorized('o-2'))
  expect(await said(driver)).toMatchObject([
    { type: 'InventoryReserved', orderId: 'o-1', items: [{ sku: 'book', quantity: 2 }] },
    { type: 'InventoryRejected', orderId: 'o-2', sku: 'book', reason: 'out-of-stock' },
  ])
  expect(await driver.rows('warehouse-stock')).toEqual([
    { sku: 'book', received: 3, onHand: 1, reserved: 2, shipped: 0 },
  ])
})

test('inventory: it holds what was paid for, and waits for the addition that was', async () => {
  const driver = await open(inventoryTopology)
  await tell(driver, created('o-1'), authorized('o-1', 1500))
  expect(await said(driver)).not.toContainEqual(expect.objectContaining({ orderId: 'o-1' }))
  await tell(driver, added('o-1', T + 5))
  expect(await said(driver)).toContainEqual(
    expect.objectContaining({
      type: 'InventoryReserved',
      items: [
        { sku: 'book', quantity: 2 },
        { sku: 'pen', quantity: 1 },
      ],
    }),
  )
})

test('inventory: a failure gives the stock back once, though it comes before its cause', async () => {
  const driver = await open(inventoryTopology, { ...settings, openingStock: 10 })
  await tell(driver, failed('o-1'), created('o-1'), authorized('o-1'), failed('o-1'))
  expect(await types(driver)).toEqual(['StockReceived', 'InventoryReserved', 'InventoryReleased'])
  expect(await driver.rows('warehouse-stock')).toEqual([
    { sku: 'book', received: 10, onHand: 10, reserved: 0, shipped: 0 },
  ])
})

test('inventory: of an order that got nothing, nothing is given back or shipped', async () => {
  const driver = await open(inventoryTopology, { ...settings, openingStock: 0 })
  await tell(driver, received(1), created('o-1'), authorized('o-1'), failed('o-1'))
  await tell(driver, created('o-2'), authorized('o-2'), fulfilled('o-2'))
  expect(await types(driver)).toEqual(['InventoryRejected', 'InventoryRejected'])
  expect(await driver.rows('warehouse-stock')).toEqual([
    { sku: 'book', received: 1, onHand: 1, reserved: 0, shipped: 0 },
  ])
})

test('inventory: what is shipped has left', async () => {
  const driver = await open(inventoryTopology, { ...settings, openingStock: 10 })
  await tell(driver, created('o-1'), authorized('o-1'), fulfilled('o-1'))
  expect(await driver.rows('warehouse-stock')).toEqual([
    { sku: 'book', received: 10, onHand: 8, reserved: 0, shipped: 2 },
  ])
})

test('fulfilment: a reserved order is shipped, with a thin event beside', async () => {
  const driver = await open(fulfilmentTopology)
  await tell(driver, reserved('o-1'))
  await pass(driver, 10 * minuteMs)
  const [shipment] = await driver.rows('shipments')
  const { carrier, tracking } = shipment as { carrier: string; tracking: string }
  expect((await said(driver)).sort((a, b) => (a.type < b.type ? -1 : 1))).toMatchObject([
    { type: 'OrderFulfilled', carrier },
    { type: 'OrderShipped', orderId: 'o-1', tracking },
  ])
})

test('fulfilment: a cancellation before the parcel leaves stops it, one after does not', async () => {
  const driver = await open(fulfilmentTopology)
  await tell(driver, cancelled('o-1', T + minuteMs), reserved('o-1'), reserved('o-2'))
  await tell(driver, cancelled('o-2', T + 30 * minuteMs))
  await pass(driver, 60 * minuteMs)
  const events = (await said(driver)).sort((a, b) => (a.type < b.type ? -1 : 1))
  expect(events).toMatchObject([
    { type: 'FulfilmentFailed', orderId: 'o-1', reason: 'order-cancelled' },
    { type: 'OrderFulfilled', orderId: 'o-2' },
    { type: 'OrderShipped', orderId: 'o-2' },
  ])
})

test('order: the last declined payment cancels the order, in whatever order they come', async () => {
  const driver = await open(orderTopology)
  await tell(driver, created('o-1'))
  await appendRecords(
    driver.log,
    [3, 1].map(attempt => sagaRecord(declined('o-1', attempt), `declined.${attempt}`)),
  )
  await settle([driver])
  expect(await said(driver)).toEqual([])
  await appendRecords(driver.log, [sagaRecord(declined('o-1', 2), 'declined.2')])
  await settle([driver])
  const [event] = saidByServices(await writtenEvents(driver.log))
  expect(event).toMatchObject({
    event: { type: 'OrderCancelled', reason: 'payment-declined' },
    headers: { causationid: 'declined.3' },
  })
})

test('order: it cancels what failed, and not what its customer has cancelled', async () => {
  const driver = await open(orderTopology)
  await tell(driver, rejected('o-1'), failed('o-2'), failed('o-3', 'order-cancelled'))
  expect(await said(driver)).toMatchObject([
    { type: 'OrderCancelled', orderId: 'o-1', reason: 'out-of-stock' },
    { type: 'OrderCancelled', orderId: 'o-2', reason: 'parcel-lost' },
  ])
})

test('order: how firm an order is', async () => {
  const driver = await open(orderTopology)
  const lock = async (orderId: string) =>
    (await driver.rows('order-locks')).find(row => row.orderId === orderId)?.lock
  await tell(driver, created('o-1'))
  expect(await lock('o-1')).toBe('pending')
  await tell(driver, reserved('o-1'))
  expect(await lock('o-1')).toBe('reserved')
  await tell(driver, fulfilled('o-1'), cancelled('o-1', T + 60 * minuteMs))
  expect(await lock('o-1')).toBe('confirmed')
  await tell(driver, created('o-2'), cancelled('o-2', T + 1))
  expect(await lock('o-2')).toBe('released')
})

test('an order is forgotten when it is old, and was read that long ago', async () => {
  const driver = await open(orderTopology, { ...settings, keepMs: 60 * minuteMs })
  const ids = async () => (await driver.rows('order-locks')).map(({ orderId }) => orderId)
  await tell(driver, created('o-1'))
  await driver.advanceWallClock(30 * minuteMs)
  // A backlog of hours is read in a moment: what others have to say of o-1 is still to come.
  await tell(driver, created('o-2', T + 20 * 60 * minuteMs))
  expect(await ids()).toEqual(['o-1', 'o-2'])
  await driver.advanceWallClock(24 * 60 * minuteMs - 31 * minuteMs)
  expect(await ids()).toEqual([])
})

test('notification: a customer hears of what others did, once, when the order is known', async () => {
  const driver = await open(notificationTopology)
  await tell(driver, authorized('o-1'), shipped('o-1'), shipped('o-1'), cancelled('o-1', T + 1))
  expect(await said(driver)).toEqual([])
  await tell(driver, created('o-1'))
  const told = (await said(driver)) as { template: string; notificationId: string }[]
  expect(told.map(({ template }) => template).sort()).toEqual([
    'order-received',
    'order-shipped',
    'payment-received',
  ])
  const [first] = await said(driver)
  expect(first).toMatchObject({ customerId: 'c-1', notificationId: 'o-1.order-received' })
})

test('fraud: an order of many pieces, and one that a bank suspects, once each', async () => {
  const driver = await open(fraudTopology)
  const many = { ...created('o-1'), items: [{ ...item, quantity: 25 }] } as BusinessEvent
  const suspected = { ...declined('o-2', 1), reason: 'suspected-fraud' } as BusinessEvent
  await tell(driver, many, suspected, created('o-2'), created('o-3'), declined('o-3', 1))
  expect(await said(driver)).toMatchObject([
    { type: 'FraudSuspected', orderId: 'o-1', customerId: 'c-1', rule: 'bulk-order', score: 5 },
    { type: 'FraudSuspected', orderId: 'o-2', customerId: 'c-1', rule: 'issuer-suspects' },
  ])
})

/** One that this tree knows nothing of: it counts parcels by carrier. */
function parcelCounter(): Topology {
  const topology = new Topology('parcel-counter')
  eventsOnce(topology, 'fulfilment')
    .filter(({ type }) => type === 'OrderFulfilled')
    .groupBy(event => (event as { carrier: string }).carrier, {
      name: 'by-carrier',
      key: textKey('carrier'),
    })
    .count({ name: 'parcels' })
    .view({
      name: 'parcels',
      description: 'Parcels of each carrier',
      value: { parcels: Type.Integer() },
      row: parcels => ({ parcels }),
    })
  return topology
}

/** Runs the services over a story, and gives all that was said. */
async function play(services: readonly Topology[]) {
  const drivers = await openServices(services)
  opened.push(...drivers)
  await appendRecords(drivers[0]!.log, customersStory(new Random(2), { orders: 60, stock: 1000 }))
  await finish(drivers)
  return { drivers, events: await writtenEvents(drivers[0]!.log) }
}

test('a consumer from outside joins without anything else being touched', async () => {
  const services = () => serviceTopologies({ seed: 7, settleMs: 0 })
  const { drivers, events } = await play([...services(), parcelCounter()])
  checkBooks(events)
  const shippedOrders = events.filter(({ event }) => event.type === 'OrderFulfilled').length
  const rows = await drivers.at(-1)!.rows('parcels')
  expect(shippedOrders).toBeGreaterThan(20)
  expect(rows.reduce((sum, { parcels }) => sum + Number(parcels), 0)).toBe(shippedOrders)
  const without = await play(services())
  expect(saidByServices(events)).toEqual(saidByServices(without.events))
})

test('the notification service joins without the others saying anything else', async () => {
  const services = () => serviceTopologies({ seed: 7, settleMs: 0 })
  const { events } = await play(services())
  const others = services().filter(({ application }) => application !== 'notification')
  const without = await play(others)
  const told = saidByServices(events).filter(({ topic }) => topic === 'notifications')
  expect(told.length).toBeGreaterThan(100)
  const said = saidByServices(events).filter(({ topic }) => topic !== 'notifications')
  expect(said).toEqual(saidByServices(without.events))
})

/** Lets the services work, half an hour of the clock, time and again. */
async function passHours(drivers: readonly TopologyTestDriver[], hours: number) {
  for (let i = 0; i < hours * 2; i++) {
    await settle(drivers)
    drivers[0]!.tick(30 * minuteMs)
  }
  await settle(drivers)
}

for (const absent of ['payment', 'inventory']) {
  test(`orchestrated: ${absent} gives no answer; what it says when all is over is undone`, async () => {
    const all = serviceTopologies({ seed: 7, openingStock: 10, saga: 'orchestrated' })
    const others = all.filter(({ application }) => application !== absent)
    const drivers = await openServices(others)
    opened.push(...drivers)
    const { log } = drivers[0]!
    await appendRecords(log, [sagaRecord(created('o-1'), 'o-1.created')])
    await passHours(drivers, 6)
    const orchestrator = drivers.find(({ application }) => application === 'orchestrator')!
    expect(await orchestrator.rows('sagas')).toMatchObject([{ orderId: 'o-1', givenUp: true }])
    const cancellation = saidByServices(await writtenEvents(log)).find(
      ({ event }) => event.type === 'OrderCancelled',
    )
    expect(cancellation!.event).toMatchObject({ reason: 'no-answer' })
    const late = await TopologyTestDriver.open(
      all.find(({ application }) => application === absent)!,
      { beside: drivers[0]!, partitions: 3 },
    )
    opened.push(late)
    await passHours([...drivers, late], 2)
    const types = saidByServices(await writtenEvents(log)).map(({ event }) => event.type)
    expect(types).toContain('PaymentRefunded')
    expect(types).not.toContain('OrderFulfilled')
    expect(types.includes('InventoryReleased')).toBe(types.includes('InventoryReserved'))
    expect(await orchestrator.rows('sagas')).toMatchObject([{ waiting: [] }])
  })
}
