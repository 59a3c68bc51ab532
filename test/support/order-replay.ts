/**
 * What an order is after some of its raw events, computed from all of them at once and with
 * nothing of the services' own code: the oracle of questions about the past.
 */
import type { EventOf } from '../../contracts/events.ts'
import { eventTimeOf } from '../../contracts/topics.ts'
import type { OrderFact } from '../../processors/orders/order-state.ts'

type Type = OrderFact['event']['type']

const topics = ['orders', 'payments', 'inventory', 'fulfilment']
/** A later one tells more. */
const steps: readonly (readonly [Type, string])[] = [
  ['OrderCreated', 'pending'],
  ['PaymentDeclined', 'declined'],
  ['PaymentAuthorized', 'paid'],
  ['InventoryReserved', 'reserved'],
  ['InventoryRejected', 'rejected'],
  ['FulfilmentFailed', 'failed'],
  ['OrderCancelled', 'cancelled'],
  ['OrderFulfilled', 'fulfilled'],
]
/** What closes an order to more items. */
const closing = new Set<Type>(
  steps.map(([type]) => type).filter(type => type !== 'OrderCreated' && type !== 'PaymentDeclined'),
)

const place = (fact: OrderFact) => [
  eventTimeOf(fact.event),
  topics.indexOf(fact.topic),
  fact.partition,
  fact.offset,
]

function inOrder(a: OrderFact, b: OrderFact): number {
  const [left, right] = [place(a), place(b)]
  const at = left.findIndex((part, i) => part !== right[i])
  return at < 0 ? 0 : left[at]! - right[at]!
}

/** The order and its events as `GET /v1/orders/{id}` and `/events` tell them. */
export function replayed(orderId: string, facts: readonly OrderFact[]) {
  const sorted = facts.filter(({ event }) => event.orderId === orderId).sort(inOrder)
  const of = <T extends Type>(type: T) =>
    sorted.map(({ event }) => event).filter((event): event is EventOf<T> => event.type === type)
  const [created] = of('OrderCreated')
  const closedAt = sorted.findIndex(({ event }) => closing.has(event.type))
  const open = closedAt < 0 ? sorted : sorted.slice(0, closedAt)
  const added = open.map(({ event }) => event).filter(event => event.type === 'OrderItemsAdded')
  const [fulfilled] = of('OrderFulfilled')
  const sum = (events: readonly { readonly amountMinor: number }[]) =>
    events.reduce((total, { amountMinor }) => total + amountMinor, 0)
  const order = {
    orderId,
    status: steps.findLast(([type]) => of(type).length > 0)?.[1] ?? 'unknown',
    version: sorted.length,
    customerId: created?.customerId ?? null,
    region: created?.region ?? null,
    currency: created?.currency ?? null,
    items: [...(created?.items ?? []), ...added.flatMap(({ items }) => items)],
    totalMinor: added.at(-1)?.totalMinor ?? created?.totalMinor ?? null,
    createdAt: created?.createdAt ?? null,
    updatedAt: Math.max(...sorted.map(({ event }) => eventTimeOf(event))),
    authorizedMinor: sum(of('PaymentAuthorized')),
    refundedMinor: sum(of('PaymentRefunded')),
    carrier: fulfilled?.carrier ?? null,
    tracking: of('OrderShipped').at(-1)?.tracking ?? null,
    reason: fulfilled === undefined ? (of('OrderCancelled')[0]?.reason ?? null) : null,
  }
  const events = sorted.map(({ event, ...fact }) => {
    const { type, ...value } = event
    return { ...fact, type, time: eventTimeOf(event), value }
  })
  return { order, events }
}
