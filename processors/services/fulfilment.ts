/**
 * The fulfilment service: ships what is reserved, and has the last word on cancellations.
 *
 * in     orders and inventory by orderId
 * time   shipping is a decision (`decisions.ts`): an order that was cancelled before its parcel
 *        leaves is not shipped; one that was cancelled later is
 * state  one row an order, kept for `keepMs`, changelogged; the view `shipments`
 * out    OrderFulfilled and OrderShipped, or FulfilmentFailed, once an order
 * late   a cancellation that comes after the decision changes nothing
 */
import { Type } from 'typebox'
import type { BusinessEvent } from '../../contracts/events.ts'
import {
  json,
  type ProcessorContext,
  type ProcessorRecord,
  type Timer,
  Topology,
} from '../../streams/index.ts'
import { orderKey } from '../analytics/event-streams.ts'
import { sagaInputs } from './commands.ts'
import { Decisions, type Due } from './decisions.ts'
import { type Cause, causeOf, follow, type Message, messages, publish, send } from './messages.ts'
import { rowOf } from './order-rows.ts'
import { delivery, packingMs } from './outcomes.ts'
import type { ServiceSettings } from './settings.ts'

const service = 'fulfilment'

/** Why an order is not shipped that its customer has cancelled in time. */
export const cancelledReason = 'order-cancelled'

interface Shipment {
  readonly state: 'waiting' | 'packing' | 'shipped' | 'failed'
  readonly reserved?: Cause
  readonly cancelledAt?: number
  readonly due?: Due
  readonly carrier?: string
  readonly tracking?: string
  readonly reason?: string
}

const stores = { orders: { key: orderKey, codec: json<Shipment>() } } as const
type Context = ProcessorContext<string, typeof stores, string, Message>

export function fulfilmentTopology(settings: ServiceSettings): Topology {
  const topology = new Topology(service)
  const out = sagaInputs(
    topology,
    {
      service: 'fulfilment',
      facts: ['OrderCancelled'],
      triggers: ['InventoryReserved'],
    },
    settings,
  ).process<typeof stores, string, Message>({
    name: 'shipping',
    key: orderKey,
    stores,
    wallClock: true,
    results: messages,
    keepsKeys: true,
    views: [{ store: 'orders', ...view }],
    create: context => new FulfilmentService(context, settings),
  })
  publish(out, 'OrderShipped', 'OrderFulfilled', 'FulfilmentFailed')
  return topology
}

const optionalText = (description: string) =>
  Type.Union([Type.String(), Type.Null()], { description })
const view = {
  name: 'shipments',
  description: 'What the fulfilment service knows of each order',
  value: {
    state: Type.String({ description: 'waiting for stock, packing, shipped, failed' }),
    carrier: optionalText('Who takes the parcel'),
    tracking: optionalText('Number of the parcel'),
    reason: optionalText('Why it failed'),
  },
  row: ({ state, carrier, tracking, reason }: Shipment) => ({
    state,
    carrier: carrier ?? null,
    tracking: tracking ?? null,
    reason: reason ?? null,
  }),
}

class FulfilmentService {
  readonly #context: Context
  readonly #settings: ServiceSettings
  readonly #decisions: Decisions

  constructor(context: Context, settings: ServiceSettings) {
    this.#context = context
    this.#settings = settings
    this.#decisions = new Decisions(context, settings)
  }

  process(record: ProcessorRecord<string, BusinessEvent>): void {
    this.#decisions.read()
    const { key, value: event } = record
    const rows = this.#context.store('orders')
    const before = rowOf(rows, record, this.#context, this.#settings.keepMs)
    const row = before ?? { state: 'waiting' }
    if (event.type === 'OrderCancelled') {
      const cancelledAt = Math.min(event.cancelledAt, row.cancelledAt ?? event.cancelledAt)
      rows.put(key, { ...row, cancelledAt })
    } else if (event.type === 'InventoryReserved' && row.reserved === undefined) {
      const due = this.#decisions.plan(key, event.reservedAt + packingMs(this.#settings.seed, key))
      rows.put(key, { ...row, state: 'packing', reserved: causeOf(record), due })
    }
  }

  onTimer(timer: Timer<string>): void {
    const rows = this.#context.store('orders')
    this.#decisions.onTimer(rows, timer, row => this.#decided(timer.key, row))
  }

  #decided(orderId: string, { due, ...row }: Shipment): Shipment {
    const { atMs } = due!
    const { carrier, tracking, failed } = delivery(this.#settings.seed, orderId)
    const isCancelled = row.cancelledAt !== undefined && row.cancelledAt <= atMs
    const reason = isCancelled ? cancelledReason : failed
    if (reason !== undefined) {
      this.#say(row, { type: 'FulfilmentFailed', orderId, reason, failedAt: atMs })
      return { ...row, state: 'failed', reason }
    }
    this.#say(row, { type: 'OrderFulfilled', orderId, carrier, fulfilledAt: atMs })
    this.#say(row, { type: 'OrderShipped', orderId, tracking, shippedAt: atMs })
    return { ...row, state: 'shipped', carrier, tracking }
  }

  #say(row: Shipment, event: BusinessEvent & { readonly orderId: string }): void {
    send(this.#context, event.orderId, follow(service, row.reserved!, event))
  }
}
