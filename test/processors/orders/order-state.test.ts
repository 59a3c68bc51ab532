import { expect, test } from 'vitest'
import { eventTimeOf, eventTopics } from '../../../contracts/topics.ts'
import {
  compareFacts,
  noOrder,
  type OrderEvent,
  type OrderFact,
  orderEventsMax,
  orderOf,
  withFact,
} from '../../../processors/orders/order-state.ts'
import { orderEvent } from '../../support/order-events.ts'
import { Random } from '../../support/random.ts'

const orderId = 'o-1'
const items = [{ sku: 'mug', category: 'home', quantity: 2, unitPriceMinor: 500 }]
const pay = { paymentId: 'p', orderId, amountMinor: 1000, currency: 'EUR', method: 'card' }

const created: OrderEvent = {
  type: 'OrderCreated',
  orderId,
  customerId: 'ann',
  region: 'eu',
  currency: 'EUR',
  items,
  totalMinor: 1000,
  createdAt: 10,
}
const added = (addedAt: number): OrderEvent => ({
  type: 'OrderItemsAdded',
  orderId,
  items,
  totalMinor: 2000,
  addedAt,
})
const paid: OrderEvent = { type: 'PaymentAuthorized', ...pay, authorizedAt: 20 }
const declined: OrderEvent = { type: 'PaymentDeclined', ...pay, reason: 'no', declinedAt: 15 }
const refunded: OrderEvent = { type: 'PaymentRefunded', ...pay, reason: 'no', refundedAt: 60 }
const reserved: OrderEvent = { type: 'InventoryReserved', orderId, items, reservedAt: 30 }
const failed: OrderEvent = { type: 'FulfilmentFailed', orderId, reason: 'lost', failedAt: 40 }
const fulfilled: OrderEvent = { type: 'OrderFulfilled', orderId, carrier: 'post', fulfilledAt: 40 }
const shipped: OrderEvent = { type: 'OrderShipped', orderId, tracking: 'T', shippedAt: 41 }
const cancelled = (cancelledAt: number): OrderEvent => ({
  type: 'OrderCancelled',
  orderId,
  reason: 'changed-mind',
  cancelledAt,
})

function facts(...events: OrderEvent[]): OrderFact[] {
  return events.map((event, offset) => ({
    id: `${event.type}-${eventTimeOf(event)}`,
    event,
    actor: null,
    correlationId: null,
    causationId: null,
    topic: eventTopics[event.type],
    partition: 0,
    offset,
  }))
}

const statusOf = (...events: OrderEvent[]) => orderOf(orderId, facts(...events)).status

test('each event that carries an order on moves its status', () => {
  expect(statusOf(created)).toBe('pending')
  expect(statusOf(created, declined)).toBe('declined')
  expect(statusOf(created, declined, paid)).toBe('paid')
  expect(statusOf(created, paid, reserved)).toBe('reserved')
  expect(statusOf(created, paid, reserved, fulfilled)).toBe('fulfilled')
  expect(statusOf(created, paid, reserved, failed)).toBe('failed')
  expect(statusOf(created, paid, reserved, failed, cancelled(50))).toBe('cancelled')
  expect(statusOf(paid)).toBe('paid')
  expect(statusOf(shipped)).toBe('unknown')
})

test('what has been shipped is fulfilled, whenever it was cancelled', () => {
  expect(statusOf(created, fulfilled, cancelled(45))).toBe('fulfilled')
  expect(statusOf(cancelled(45), fulfilled, created)).toBe('fulfilled')
  expect(statusOf(created, fulfilled, cancelled(39))).toBe('fulfilled')
})

test('money, items, parcel and version tell what happened', () => {
  const order = orderOf(orderId, facts(refunded, shipped, paid, added(12), created, cancelled(50)))
  expect(order).toMatchObject({
    status: 'cancelled',
    version: 6,
    totalMinor: 2000,
    authorizedMinor: 1000,
    refundedMinor: 1000,
    tracking: 'T',
    reason: 'changed-mind',
    createdAt: 10,
    updatedAt: 60,
    items: [...items, ...items],
  })
  expect(order.events.map(({ event }) => event.type)).toEqual([
    'OrderCreated',
    'OrderItemsAdded',
    'PaymentAuthorized',
    'OrderShipped',
    'OrderCancelled',
    'PaymentRefunded',
  ])
})

test('items that are added when the order is paid for count for nothing', () => {
  expect(orderOf(orderId, facts(created, paid, added(25)))).toMatchObject({
    totalMinor: 1000,
    items,
    version: 3,
  })
})

test('an event that was seen changes nothing, nor does a second creation', () => {
  const twice = [...facts(created, paid), ...facts(created, paid)]
  expect(orderOf(orderId, twice)).toEqual(orderOf(orderId, facts(created, paid)))
  const again = { ...created, customerId: 'bob', createdAt: 11 } as OrderEvent
  expect(orderOf(orderId, facts(created, again))).toMatchObject({ customerId: 'ann', version: 2 })
})

test('an order of absurdly many events refuses the next', () => {
  let order = noOrder(orderId)
  const [fact] = facts(declined)
  for (let i = 0; i < orderEventsMax; i++) order = withFact(order, { ...fact!, id: `${i}` })
  expect(order.version).toBe(orderEventsMax)
  expect(() => withFact(order, { ...fact!, id: 'more' })).toThrow(RangeError)
  expect(withFact(order, { ...fact!, id: '7' })).toBe(order)
})

test('random facts in any order come to the same, and a final status stays', () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = new Random(seed)
    const events = Array.from({ length: 1 + random.below(15) }, () =>
      orderEvent(random, orderId, random.below(12)),
    )
    const given = events.map((event, offset) => ({ ...facts(event)[0]!, id: `${offset}`, offset }))
    const order = orderOf(orderId, given)
    expect(orderOf(orderId, random.shuffle([...given]))).toEqual(order)
    let step = noOrder(orderId)
    for (const fact of [...given].sort(compareFacts)) {
      const next = withFact(step, fact)
      if (step.status === 'fulfilled') expect(next.status).toBe('fulfilled')
      expect(next.version).toBe(step.version + 1)
      step = next
    }
    expect(step).toEqual(order)
  }
})
