/**
 * What the events of an order come to: a pure fold. Given in the order of their order keys
 * (timestamp, topic, partition, offset), the same events give the same order, whenever each came.
 *
 *     pending ─▶ paid ─▶ reserved ─▶ fulfilled
 *        │ ▲       │        │
 *        ▼ │       ▼        ▼
 *     declined  rejected  failed ─▶ cancelled      cancelled from anywhere but fulfilled
 *
 * `status` follows from what has happened, not from the step before, so that events of different
 * topics whose clocks differ by a little come to the same. Only cancelled and fulfilled end an
 * order, and fulfilment has the last word: what has been shipped is no longer cancelled, whenever
 * that was asked.
 */
import type { BusinessEvent, OrderItem } from '../../contracts/events.ts'
import { eventTimeOf, eventTopics } from '../../contracts/topics.ts'
import { addSafe } from '../safe-sum.ts'

const orderTopics = ['orders', 'payments', 'inventory', 'fulfilment'] as const

type OrderEventType = `${'Order' | 'Payment' | 'Inventory' | 'Fulfilment'}${string}`

/** Those of the topics that are keyed by order and tell what becomes of it. */
export type OrderEvent = Extract<BusinessEvent, { readonly type: OrderEventType }>

/** An event of an order, and where it comes from. */
export interface OrderFact {
  /** `ce_id`; a second fact with it changes nothing. */
  readonly id: string
  readonly event: OrderEvent
  /** Who did it. */
  readonly actor: string | null
  /** Of the whole story: the same in all that followed from one request. */
  readonly correlationId: string | null
  /** Id of the event or command that this one follows from. */
  readonly causationId: string | null
  readonly topic: string
  readonly partition: number
  readonly offset: number
}

export type OrderStatus =
  /** Nothing tells of its creation (yet). */
  | 'unknown'
  | 'pending'
  | 'declined'
  | 'paid'
  | 'reserved'
  | 'rejected'
  | 'failed'
  | 'fulfilled'
  | 'cancelled'

export interface OrderState {
  readonly orderId: string
  readonly status: OrderStatus
  /** How many events have led here: it grows with each. */
  readonly version: number
  readonly customerId: string | null
  readonly region: string | null
  readonly currency: string | null
  readonly items: readonly OrderItem[]
  readonly totalMinor: number | null
  readonly createdAt: number | null
  /** Time of the last event. */
  readonly updatedAt: number
  readonly authorizedMinor: number
  readonly refundedMinor: number
  readonly carrier: string | null
  readonly tracking: string | null
  /** Why it was cancelled. */
  readonly reason: string | null
  readonly events: readonly OrderFact[]
  /** Length of the events, as JSON. */
  readonly chars: number
}

/** An order of more events, or of larger ones, is no order: what is beyond overflows. */
export const orderEventsMax = 500
export const orderCharsMax = 200_000

/** Where the record of a fact is not known yet: this service has decided it. */
export const NO_PLACE = -1

export function noOrder(orderId: string): OrderState {
  return {
    orderId,
    status: 'unknown',
    version: 0,
    customerId: null,
    region: null,
    currency: null,
    items: [],
    totalMinor: null,
    createdAt: null,
    updatedAt: 0,
    authorizedMinor: 0,
    refundedMinor: 0,
    carrier: null,
    tracking: null,
    reason: null,
    events: [],
    chars: 0,
  }
}

export function isOrderEvent(event: BusinessEvent): event is OrderEvent {
  return (orderTopics as readonly string[]).includes(eventTopics[event.type])
}

/** Nothing more is asked of it; a cancellation that comes too late gives way to fulfilment. */
export function isFinal({ status }: Pick<OrderState, 'status'>): boolean {
  return status === 'fulfilled' || status === 'cancelled'
}

/** The order after one more event. Throws a RangeError where it has too many. */
export function withFact(order: OrderState, fact: OrderFact): OrderState {
  if (order.events.some(({ id }) => id === fact.id)) return order
  const chars = order.chars + JSON.stringify(fact).length
  const isFull = order.events.length >= orderEventsMax
  if (isFull || chars > orderCharsMax) {
    const has = isFull ? `${orderEventsMax} events` : `events of ${orderCharsMax} characters`
    throw new RangeError(`the order ${order.orderId} has ${has} already`)
  }
  return {
    ...order,
    ...changesOf(order, fact.event),
    version: order.version + 1,
    updatedAt: Math.max(order.updatedAt, eventTimeOf(fact.event)),
    events: [...order.events, fact],
    chars,
  }
}

/**
 * The order after one more event, wherever in its history that belongs. A fact of the log takes
 * the place of the same one of which the place was not known.
 */
export function withFactInOrder(order: OrderState, fact: OrderFact): OrderState {
  const known = order.events.find(({ id }) => id === fact.id)
  if (known !== undefined && (known.offset !== NO_PLACE || fact.offset === NO_PLACE)) return order
  const last = order.events.at(-1)
  if (known === undefined && (last === undefined || compareFacts(last, fact) <= 0)) {
    return withFact(order, fact)
  }
  return orderOf(order.orderId, [...order.events.filter(({ id }) => id !== fact.id), fact])
}

/** The order that some facts lead to. */
export function orderOf(orderId: string, facts: readonly OrderFact[]): OrderState {
  return [...facts].sort(compareFacts).reduce(withFact, noOrder(orderId))
}

/** By order key: timestamp, topic, partition, offset. */
export function compareFacts(a: OrderFact, b: OrderFact): number {
  const byTime = eventTimeOf(a.event) - eventTimeOf(b.event)
  if (byTime !== 0) return byTime
  if (a.topic !== b.topic) return topicOrder(a.topic) - topicOrder(b.topic)
  return placeOf(a.partition) - placeOf(b.partition) || placeOf(a.offset) - placeOf(b.offset)
}

/** What is decided and not back from the log yet comes after all that is. */
function placeOf(place: number): number {
  return place === NO_PLACE ? Number.MAX_SAFE_INTEGER : place
}

function topicOrder(topic: string): number {
  return (orderTopics as readonly string[]).indexOf(topic)
}

type Changes = Partial<OrderState>

function changesOf(order: OrderState, event: OrderEvent): Changes {
  switch (event.type) {
    case 'OrderCreated':
      // A second creation under the same id is none.
      if (order.createdAt !== null) return {}
      return {
        status: order.status === 'unknown' ? 'pending' : order.status,
        customerId: event.customerId,
        region: event.region,
        currency: event.currency,
        items: [...event.items, ...order.items],
        totalMinor: order.totalMinor ?? event.totalMinor,
        createdAt: event.createdAt,
      }
    case 'OrderItemsAdded':
      // What comes when the order is no longer open was added to nothing.
      if (!isOpen(order)) return {}
      return { items: [...order.items, ...event.items], totalMinor: event.totalMinor }
    case 'OrderCancelled':
      return isFinal(order) ? {} : { status: 'cancelled', reason: event.reason }
    case 'PaymentAuthorized':
      return {
        ...forward(order, 'paid'),
        authorizedMinor: addSafe(order.authorizedMinor, event.amountMinor),
      }
    case 'PaymentDeclined':
      return forward(order, 'declined')
    case 'PaymentRefunded':
      return { refundedMinor: addSafe(order.refundedMinor, event.amountMinor) }
    case 'InventoryReserved':
      return forward(order, 'reserved')
    case 'InventoryRejected':
      return forward(order, 'rejected')
    case 'InventoryReleased':
      return {}
    case 'OrderShipped':
      return { tracking: event.tracking }
    case 'OrderFulfilled':
      return order.status === 'fulfilled'
        ? {}
        : { status: 'fulfilled', carrier: event.carrier, reason: null }
    case 'FulfilmentFailed':
      return forward(order, 'failed')
  }
}

/** Items may be added: it is neither paid for nor at its end. */
export function isOpen({ status }: Pick<OrderState, 'status'>): boolean {
  return status === 'unknown' || status === 'pending' || status === 'declined'
}

const ranks: readonly OrderStatus[] = [
  'unknown',
  'pending',
  'declined',
  'paid',
  'reserved',
  'rejected',
  'failed',
]

/** The status that tells more; one that was passed already is not gone back to. */
function forward({ status }: OrderState, next: OrderStatus): Changes {
  return ranks.indexOf(next) > ranks.indexOf(status) && ranks.includes(status)
    ? { status: next }
    : {}
}
