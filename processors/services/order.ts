/**
 * The order service: cancels orders that cannot be carried out, and says how firm each one is.
 *
 * in     orders, payments, inventory, fulfilment by orderId
 * time   none: what it says follows from which events there are, in whatever order they come
 * state  one row an order, kept for `keepMs`, changelogged; the view `order-locks`
 * out    OrderCancelled once, when the last payment was declined, the stock rejected, or the
 *        fulfilment failed for a reason other than the customer's own cancellation
 * late   nothing is late
 */
import { Type } from 'typebox'
import type { BusinessEvent, OrderCancelled } from '../../contracts/events.ts'
import { eventTimeOf } from '../../contracts/topics.ts'
import { json, type ProcessorContext, type ProcessorRecord, Topology } from '../../streams/index.ts'
import { orderKey } from '../analytics/event-streams.ts'
import { sagaInputs } from './commands.ts'
import { cancelledReason } from './fulfilment.ts'
import { type Cause, causeOf, follow, type Message, messages, publish, send } from './messages.ts'
import { rowOf, timedRow } from './order-rows.ts'
import { answerDelayMs, paymentAttemptsMax } from './outcomes.ts'
import type { ServiceSettings } from './settings.ts'

const service = 'order'

interface Declined extends Cause {
  readonly paymentId: string
  readonly atMs: number
}

/** What has been heard of an order. */
interface Order {
  readonly declined: readonly Declined[]
  readonly isReserved?: boolean
  readonly isFulfilled?: boolean
  /** Its first cancellation, by whomever. */
  readonly cancelled?: { readonly atMs: number; readonly reason: string }
  /** This service has cancelled it. */
  readonly isEnded?: boolean
  readonly updatedAt: number
}

const stores = { orders: { key: orderKey, codec: json<Order>() } } as const
type Context = ProcessorContext<string, typeof stores, string, Message>
type OrderRecord = ProcessorRecord<string, BusinessEvent>

export function orderTopology(settings: ServiceSettings): Topology {
  const topology = new Topology(service)
  const out = sagaInputs(
    topology,
    {
      service: 'order',
      facts: ['OrderCreated', 'OrderCancelled', 'InventoryReserved', 'OrderFulfilled'],
      triggers: ['PaymentDeclined', 'InventoryRejected', 'FulfilmentFailed'],
    },
    settings,
  ).process<typeof stores, string, Message>({
    name: 'locks',
    key: orderKey,
    stores,
    wallClock: true,
    results: messages,
    keepsKeys: true,
    views: [{ store: 'orders', ...view }],
    create: context => ({
      process: record => noted(context, record, settings),
      onTimer: timer => void timedRow(context.store('orders'), timer),
    }),
  })
  publish(out, 'OrderCancelled')
  return topology
}

const view = {
  name: 'order-locks',
  description: 'How firm each order is while the services work on it',
  value: {
    lock: Type.String({
      description:
        'pending: nothing is promised; reserved: its stock is held; confirmed: it has been shipped, whatever was asked later; released: it was cancelled',
    }),
    reason: Type.Union([Type.String(), Type.Null()], { description: 'Why it was released' }),
    updatedAt: Type.Integer({ description: 'Time of its latest event, epoch ms' }),
  },
  units: { updatedAt: 'ms' },
  row: (order: Order) => {
    const lock = lockOf(order)
    const reason = lock === 'released' ? order.cancelled!.reason : null
    return { lock, reason, updatedAt: order.updatedAt }
  },
}

/** A shipped order is confirmed even where a cancellation came too late. */
function lockOf({ isFulfilled, cancelled, isReserved }: Order): string {
  if (isFulfilled) return 'confirmed'
  if (cancelled !== undefined) return 'released'
  return isReserved ? 'reserved' : 'pending'
}

function noted(context: Context, record: OrderRecord, settings: ServiceSettings): void {
  const { key, timeMs, value: event } = record
  const rows = context.store('orders')
  const before = rowOf(rows, record, context, settings.keepMs)
  const order = withEvent(before ?? { declined: [], updatedAt: 0 }, event, causeOf(record))
  const end = order.isEnded ? undefined : endOf(order, event, causeOf(record), settings)
  const updatedAt = Math.max(order.updatedAt, timeMs)
  rows.put(key, { ...order, updatedAt, ...(end && { isEnded: true }) })
  if (end === undefined) return
  const { cause, reason, atMs } = end
  const cancelledAt = atMs + answerDelayMs(settings.seed, key, 4)
  const cancelled = { type: 'OrderCancelled', orderId: key, reason, cancelledAt } as const
  send(context, key, follow(service, cause, cancelled))
}

function withEvent(order: Order, event: BusinessEvent, cause: Cause): Order {
  switch (event.type) {
    case 'OrderCancelled':
      return { ...order, cancelled: earlier(order.cancelled, event) }
    case 'PaymentDeclined': {
      const { paymentId, declinedAt: atMs } = event
      if (order.declined.some(other => other.paymentId === paymentId)) return order
      return { ...order, declined: [...order.declined, { ...cause, paymentId, atMs }] }
    }
    case 'InventoryReserved':
      return { ...order, isReserved: true }
    case 'OrderFulfilled':
      return { ...order, isFulfilled: true }
    default:
      return order
  }
}

/** The same whichever of two comes first. */
function earlier(known: Order['cancelled'], { cancelledAt, reason }: OrderCancelled) {
  const isEarlier =
    known === undefined ||
    cancelledAt < known.atMs ||
    (cancelledAt === known.atMs && reason < known.reason)
  return isEarlier ? { atMs: cancelledAt, reason } : known
}

/** Why the order cannot go on, where this event says so. */
function endOf(
  { declined }: Order,
  event: BusinessEvent,
  cause: Cause,
  { saga }: Pick<ServiceSettings, 'saga'>,
) {
  switch (event.type) {
    case 'PaymentDeclined': {
      // Orchestrated, it is another's to count them.
      const isLast = saga === 'orchestrated' || declined.length >= paymentAttemptsMax
      if (!isLast) return undefined
      const last = declined.reduce((a, b) => (b.atMs > a.atMs ? b : a))
      return { cause: last, reason: 'payment-declined', atMs: last.atMs }
    }
    case 'InventoryRejected':
      return { cause, reason: event.reason, atMs: event.rejectedAt }
    case 'FulfilmentFailed':
      if (event.reason === cancelledReason) return undefined
      return { cause, reason: event.reason, atMs: eventTimeOf(event) }
    default:
      return undefined
  }
}
