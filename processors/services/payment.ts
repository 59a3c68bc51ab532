/**
 * The payment service: charges orders, and gives back what was charged when a later step fails.
 *
 * in     orders, inventory, fulfilment by orderId
 * time   an attempt is a decision (`decisions.ts`): what was added or cancelled before it counts
 * state  one row an order, kept for `keepMs`, changelogged; the view `order-payments`
 * out    PaymentAuthorized or up to three PaymentDeclined; PaymentRefunded once, for what was
 *        authorized, on InventoryRejected or FulfilmentFailed
 * late   what comes after its decision changes it no more; more items than an order may have are
 *        put aside by `overflow`, here as everywhere (`orders/order-items.ts`)
 */
import { Type } from 'typebox'
import type {
  BusinessEvent,
  FulfilmentFailed,
  InventoryRejected,
  OrderCreated,
  OrderItemsAdded,
} from '../../contracts/events.ts'
import { eventTimeOf } from '../../contracts/topics.ts'
import {
  json,
  type ProcessorContext,
  type ProcessorRecord,
  type Timer,
  Topology,
} from '../../streams/index.ts'
import { orderKey } from '../analytics/event-streams.ts'
import { checkCreated, itemsBytes, itemsBytesMax, tooMany } from '../orders/order-items.ts'
import { sagaInputs } from './commands.ts'
import { Decisions, type Due } from './decisions.ts'
import { type Cause, causeOf, follow, type Message, messages, publish, send } from './messages.ts'
import { rowOf } from './order-rows.ts'
import { answerDelayMs, paymentAttempt, paymentAttemptsMax, paymentDelayMs } from './outcomes.ts'
import type { ServiceSettings } from './settings.ts'

const service = 'payment'

/** What the customer owes from a time on. */
interface Total {
  readonly atMs: number
  readonly totalMinor: number
}

interface Payment {
  readonly state: 'unknown' | 'pending' | 'declined' | 'authorized' | 'refunded' | 'void'
  readonly created?: Cause & { readonly currency: string }
  readonly totals: readonly Total[]
  /** Of all items that were added, those put aside too. */
  readonly addedBytes?: number
  readonly cancelledAt?: number
  readonly attempt: number
  readonly due?: Due
  readonly paid?: Cause & {
    readonly paymentId: string
    readonly amountMinor: number
    readonly method: string
    readonly authorizedAt: number
  }
  /** Why the money goes back. */
  readonly failed?: Cause & { readonly reason: string; readonly atMs: number }
}

const unknown: Payment = { state: 'unknown', totals: [], attempt: 0 }
const stores = { orders: { key: orderKey, codec: json<Payment>() } } as const
type Context = ProcessorContext<string, typeof stores, string, Message>
type OrderRecord = ProcessorRecord<string, BusinessEvent>

export function paymentTopology(settings: ServiceSettings): Topology {
  const topology = new Topology(service)
  const out = sagaInputs(
    topology,
    {
      service: 'payment',
      facts: ['OrderItemsAdded', 'OrderCancelled'],
      triggers: ['OrderCreated', 'InventoryRejected', 'FulfilmentFailed'],
    },
    settings,
  ).process<typeof stores, string, Message>({
    name: 'payments',
    key: orderKey,
    stores,
    wallClock: true,
    results: messages,
    keepsKeys: true,
    views: [{ store: 'orders', ...view }],
    create: context => new PaymentService(context, settings),
  })
  publish(out, 'PaymentAuthorized', 'PaymentDeclined', 'PaymentRefunded')
  return topology
}

const view = {
  name: 'order-payments',
  description: 'What the payment service knows of each order',
  value: {
    state: Type.String({
      description: 'pending, authorized, declined, refunded, or void: cancelled, never charged',
    }),
    amountMinor: Type.Integer({ description: 'Charged, and not given back' }),
    attempts: Type.Integer({ description: 'Payments tried' }),
  },
  units: { amountMinor: 'minor currency units' },
  row: ({ state, paid, attempt }: Payment) => ({
    state,
    amountMinor: state === 'authorized' ? paid!.amountMinor : 0,
    attempts: attempt,
  }),
}

class PaymentService {
  readonly #context: Context
  readonly #settings: ServiceSettings
  readonly #decisions: Decisions

  constructor(context: Context, settings: ServiceSettings) {
    this.#context = context
    this.#settings = settings
    this.#decisions = new Decisions(context, settings)
  }

  process(record: OrderRecord): void {
    this.#decisions.read()
    const { key } = record
    const rows = this.#context.store('orders')
    const before = rowOf(rows, record, this.#context, this.#settings.keepMs)
    rows.put(key, this.#refunded(key, this.#noted(before ?? unknown, record)))
  }

  #noted(row: Payment, record: OrderRecord): Payment {
    const { value: event } = record
    switch (event.type) {
      case 'OrderCreated':
        return this.#created(row, event, causeOf(record))
      case 'OrderItemsAdded': {
        const addedBytes = (row.addedBytes ?? 0) + itemsBytes(event.items)
        if (addedBytes > itemsBytesMax) {
          this.#context.drop('overflow', tooMany(event.orderId, addedBytes))
          return { ...row, addedBytes }
        }
        return { ...row, totals: [...row.totals, totalOf(event, event.addedAt)], addedBytes }
      }
      case 'OrderCancelled': {
        const cancelledAt = Math.min(event.cancelledAt, row.cancelledAt ?? event.cancelledAt)
        return { ...row, cancelledAt }
      }
      case 'InventoryRejected':
      case 'FulfilmentFailed':
        return row.failed === undefined ? { ...row, failed: failureOf(event, record) } : row
      default:
        return row
    }
  }

  #created(row: Payment, event: OrderCreated, cause: Cause): Payment {
    if (row.created !== undefined) return row
    const { orderId, currency, createdAt, items } = event
    checkCreated(orderId, items)
    const due = this.#nextAttempt(orderId, 1, createdAt)
    const totals = [totalOf(event, createdAt), ...row.totals]
    return { ...row, state: 'pending', created: { ...cause, currency }, totals, due }
  }

  #nextAttempt(orderId: string, attempt: number, afterMs: number): Due {
    const delayMs = paymentDelayMs(this.#settings.seed, orderId, attempt)
    return this.#decisions.plan(orderId, afterMs + delayMs)
  }

  onTimer(timer: Timer<string>): void {
    const { key } = timer
    this.#decisions.onTimer(this.#context.store('orders'), timer, row =>
      this.#refunded(key, this.#attempted(key, row)),
    )
  }

  /** Charges what is owed at the moment of the attempt, unless it was cancelled before. */
  #attempted(orderId: string, { due, ...row }: Payment): Payment {
    const { atMs } = due!
    const { seed } = this.#settings
    if (row.cancelledAt !== undefined && row.cancelledAt <= atMs) return { ...row, state: 'void' }
    const attempt = row.attempt + 1
    const { method, declined } = paymentAttempt(seed, orderId, attempt, atMs)
    const payment = {
      paymentId: `p-${orderId}-${attempt}`,
      orderId,
      amountMinor: owedAt(row.totals, atMs),
      currency: row.created!.currency,
      method,
    }
    const event: BusinessEvent & { orderId: string } =
      declined === undefined
        ? { type: 'PaymentAuthorized', ...payment, authorizedAt: atMs }
        : { type: 'PaymentDeclined', ...payment, reason: declined, declinedAt: atMs }
    const message = follow(service, row.created!, event, `.${attempt}`)
    send(this.#context, orderId, message)
    if (declined === undefined) {
      const { correlationId } = row.created!
      const paid = { id: message.headers.ce_id!, correlationId, ...payment, authorizedAt: atMs }
      return { ...row, attempt, state: 'authorized', paid }
    }
    if (attempt === paymentAttemptsMax) return { ...row, attempt, state: 'declined' }
    return { ...row, attempt, due: this.#nextAttempt(orderId, attempt + 1, atMs) }
  }

  /** Gives back what was charged, once, when a later step has failed. */
  #refunded(orderId: string, row: Payment): Payment {
    const { state, paid, failed, created } = row
    if (state !== 'authorized' || failed === undefined) return row
    const afterMs = Math.max(failed.atMs, paid!.authorizedAt)
    const { paymentId, amountMinor, method } = paid!
    const event: BusinessEvent & { orderId: string } = {
      type: 'PaymentRefunded',
      paymentId,
      orderId,
      amountMinor,
      currency: created!.currency,
      method,
      reason: failed.reason,
      refundedAt: afterMs + answerDelayMs(this.#settings.seed, orderId, 1),
    }
    send(this.#context, orderId, follow(service, failed, event))
    return { ...row, state: 'refunded' }
  }
}

function totalOf({ totalMinor }: OrderCreated | OrderItemsAdded, atMs: number): Total {
  return { atMs, totalMinor }
}

/** The last total up to the moment. */
function owedAt(totals: readonly Total[], atMs: number): number {
  let owed = totals[0]!
  for (const total of totals) if (total.atMs <= atMs && total.atMs >= owed.atMs) owed = total
  return owed.totalMinor
}

function failureOf(event: InventoryRejected | FulfilmentFailed, record: OrderRecord) {
  return { ...causeOf(record), reason: event.reason, atMs: eventTimeOf(event) }
}
