/**
 * What must hold of an order pipeline, folded from the events of its topics alone: one legal
 * ending an order, every cent and every piece accounted for.
 */
import assert from 'node:assert/strict'
import type { BusinessEvent, EventOf, EventType, OrderItem } from '../../contracts/events.ts'
import { eventTimeOf } from '../../contracts/topics.ts'
import type { WrittenEvent } from './saga-run.ts'

type OrderEvent = Extract<BusinessEvent, { readonly orderId: string }>

/** How an order may end: the types of the services' events about it, sorted. */
const endings: Readonly<Record<string, 'fulfilled' | 'cancelled'>> = {
  '': 'cancelled',
  'OrderCancelled PaymentDeclined*3': 'cancelled',
  'InventoryRejected OrderCancelled PaymentAuthorized PaymentRefunded': 'cancelled',
  'FulfilmentFailed InventoryReleased InventoryReserved OrderCancelled PaymentAuthorized PaymentRefunded':
    'cancelled',
  // Its customer has cancelled it: nobody has to do it again.
  'FulfilmentFailed InventoryReleased InventoryReserved PaymentAuthorized PaymentRefunded':
    'cancelled',
  'InventoryReserved OrderFulfilled OrderShipped PaymentAuthorized': 'fulfilled',
}

export interface Books {
  /** Order -> how it ended. */
  readonly ended: ReadonlyMap<string, 'fulfilled' | 'cancelled'>
  readonly netMinor: number
  /** Sku -> pieces. */
  readonly received: ReadonlyMap<string, number>
  readonly shipped: ReadonlyMap<string, number>
  readonly types: ReadonlyMap<string, number>
}

class OrderStory {
  readonly all: OrderEvent[] = []
  readonly said: OrderEvent[] = []

  of<T extends EventType>(type: T): EventOf<T>[] {
    return this.all.filter(event => event.type === type) as unknown as EventOf<T>[]
  }

  get shape(): string {
    const counts = new Map<string, number>()
    const attempted = new Set(['OrderFulfilled', 'InventoryReserved', 'InventoryRejected'])
    const isPaid = this.said.some(({ type }) => attempted.has(type))
    for (const { type } of this.said) counts.set(type, (counts.get(type) ?? 0) + 1)
    // Declined attempts before the one that succeeded, or before the customer gave up.
    const declined = counts.get('PaymentDeclined') ?? 0
    const gaveUp = declined < 3 && counts.size === 1
    if (declined < 3 && (isPaid || gaveUp)) counts.delete('PaymentDeclined')
    return [...counts]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([type, count]) => (count > 1 ? `${type}*${count}` : type))
      .join(' ')
  }
}

/** Checks every order, and returns what it comes to. Throws an AssertionError. */
export function checkBooks(events: readonly WrittenEvent[]): Books {
  const orders = storiesOf(events)
  const ended = new Map<string, 'fulfilled' | 'cancelled'>()
  const received = new Map<string, number>()
  const shipped = new Map<string, number>()
  let netMinor = 0
  for (const [orderId, story] of orders) {
    const ending = endings[story.shape]
    assert(ending !== undefined, `${orderId} ended as ${story.shape}`)
    if (ending === 'cancelled') {
      assert(story.of('OrderCancelled').length > 0, `${orderId} did not end`)
    }
    ended.set(orderId, ending)
    netMinor += checkMoney(orderId, story, ending)
    checkStock(orderId, story)
    if (ending === 'fulfilled') count(shipped, story.of('InventoryReserved')[0]!.items)
  }
  const seen = new Set<string>()
  for (const { event, headers } of events) {
    if (event.type !== 'StockReceived' || seen.has(headers.ce_id!)) continue
    seen.add(headers.ce_id!)
    count(received, [event])
  }
  return { ended, netMinor, received, shipped, types: typesOf(events) }
}

/** Each event once, whatever was delivered twice. */
function storiesOf(events: readonly WrittenEvent[]): Map<string, OrderStory> {
  const orders = new Map<string, OrderStory>()
  const seen = new Set<string>()
  const notified = new Set<string>()
  for (const { event, headers, timeMs } of events) {
    assert.equal(timeMs, eventTimeOf(event))
    const id = headers.ce_id!
    const isService = headers.ce_source!.startsWith('/services/')
    assert(!(isService && seen.has(id)), `a service said ${id} twice`)
    if (seen.has(id) || !('orderId' in event)) continue
    seen.add(id)
    let story = orders.get(event.orderId)
    if (story === undefined) orders.set(event.orderId, (story = new OrderStory()))
    story.all.push(event)
    if (event.type === 'NotificationRequested') {
      assert(!notified.has(event.notificationId), `${event.notificationId} was requested twice`)
      notified.add(event.notificationId)
    }
    if (isService && pipeline.has(event.type)) story.said.push(event)
  }
  return orders
}

/** What the four services of the saga say; others may say more. */
const pipeline = new Set<string>([
  'OrderCancelled',
  'PaymentAuthorized',
  'PaymentDeclined',
  'PaymentRefunded',
  'InventoryReserved',
  'InventoryRejected',
  'InventoryReleased',
  'OrderFulfilled',
  'OrderShipped',
  'FulfilmentFailed',
])

/** What was paid for and not given back, which is what a fulfilled order costs. */
function checkMoney(orderId: string, story: OrderStory, ending: string): number {
  const [authorized] = story.of('PaymentAuthorized')
  const [refunded] = story.of('PaymentRefunded')
  if (refunded !== undefined) {
    assert.equal(refunded.amountMinor, authorized?.amountMinor, `${orderId}: refund`)
    assert.equal(refunded.paymentId, authorized?.paymentId, `${orderId}: refund`)
  }
  const net = (authorized?.amountMinor ?? 0) - (refunded?.amountMinor ?? 0)
  const version = authorized && paidVersion(story, authorized)
  assert.equal(net, ending === 'fulfilled' ? version!.totalMinor : 0, `${orderId}: money`)
  return net
}

/** What was held is what was paid for. */
function checkStock(orderId: string, story: OrderStory): void {
  const [reserved] = story.of('InventoryReserved')
  const [released] = story.of('InventoryReleased')
  if (reserved === undefined) return
  const [authorized] = story.of('PaymentAuthorized')
  const wanted = count(new Map(), paidVersion(story, authorized!).items)
  assert.deepEqual(count(new Map(), reserved.items), wanted, `${orderId}: items`)
  if (released !== undefined) assert.deepEqual(released.items, reserved.items, orderId)
}

/** The order as it was when it was paid: its last version before, of those that cost so much. */
function paidVersion(story: OrderStory, paid: EventOf<'PaymentAuthorized'>) {
  const versions = versionsBefore(story, paid.authorizedAt)
  const version = versions.findLast(({ totalMinor }) => totalMinor === paid.amountMinor)
  assert(version !== undefined, `${paid.orderId} was never ${paid.amountMinor}`)
  return version
}

function versionsBefore(story: OrderStory, atMs: number) {
  const [created] = story.of('OrderCreated')
  const added = story
    .of('OrderItemsAdded')
    .filter(({ addedAt }) => addedAt <= atMs)
    .sort((a, b) => a.addedAt - b.addedAt)
  const all = [created!, ...added]
  return all.map(({ totalMinor }, i) => {
    const items: OrderItem[] = all.slice(0, i + 1).flatMap(event => event.items)
    return { items, totalMinor }
  })
}

/** What customers did before a decision counts: additions that are paid, cancellations. */
export function checkDecisions(events: readonly WrittenEvent[]): void {
  for (const [orderId, story] of storiesOf(events)) {
    const [fulfilled] = story.of('OrderFulfilled')
    const [authorized] = story.of('PaymentAuthorized')
    if (authorized !== undefined) {
      const last = versionsBefore(story, authorized.authorizedAt).at(-1)!
      assert.equal(authorized.amountMinor, last.totalMinor, orderId)
    }
    for (const { cancelledAt } of story.of('OrderCancelled')) {
      if (fulfilled !== undefined) {
        assert(cancelledAt > fulfilled.fulfilledAt, `${orderId} was cancelled, and shipped`)
      }
      if (authorized !== undefined) {
        assert(cancelledAt > authorized.authorizedAt, `${orderId} was cancelled, and charged`)
      }
    }
  }
}

function count(
  into: Map<string, number>,
  items: readonly { readonly sku: string; readonly quantity: number }[],
): Map<string, number> {
  for (const { sku, quantity } of items) into.set(sku, (into.get(sku) ?? 0) + quantity)
  return into
}

function typesOf(events: readonly WrittenEvent[]): Map<string, number> {
  const types = new Map<string, number>()
  for (const { event } of events) types.set(event.type, (types.get(event.type) ?? 0) + 1)
  return types
}
