/**
 * The warehouse: all stock in one task, so that an order gets all of its items or none.
 * Stock is conserved: received = on hand + reserved + shipped, after every request.
 */
import { Type } from 'typebox'
import { intMax } from '../../contracts/avro-schema.ts'
import type { BusinessEvent, StockItem } from '../../contracts/events.ts'
import { json, type ProcessorContext, type Stream, textKey } from '../../streams/index.ts'
import { orderKey } from '../analytics/event-streams.ts'
import { addSafe } from '../safe-sum.ts'
import { type Cause, follow, type Message, message, messages, send } from './messages.ts'
import { answerDelayMs, damagedItem } from './outcomes.ts'
import type { ServiceSettings } from './settings.ts'

/** What the warehouse is asked to do, and the event that asks. */
export type WarehouseRequest = Cause & {
  /** One entry a product. */
  readonly items: readonly StockItem[]
  readonly atMs: number
} & (
    | { readonly kind: 'reserve' | 'refuse' | 'ship' | 'release'; readonly orderId: string }
    | { readonly kind: 'receive' }
  )

type OrderRequest = Extract<WarehouseRequest, { readonly orderId: string }>

interface Level {
  readonly received: number
  readonly onHand: number
  readonly reserved: number
  readonly shipped: number
}

const service = 'inventory'
const nothing: Level = { received: 0, onHand: 0, reserved: 0, shipped: 0 }
const stores = {
  stock: { key: textKey('sku'), codec: json<Level>() },
  reserved: { key: orderKey, codec: json<true>() },
} as const
type Context = ProcessorContext<string, typeof stores, string, Message>

export function warehouse(
  requests: Stream<string, WarehouseRequest>,
  settings: ServiceSettings,
): Stream<string, Message> {
  return requests
    .repartition({ name: 'warehouse-requests', key: textKey('warehouse'), partitions: 1 })
    .process<typeof stores, string, Message>({
      name: 'warehouse',
      key: textKey('warehouse'),
      stores,
      results: messages,
      prefetch: ({ value: { items, ...request } }, want) => {
        for (const { sku } of items) want('stock', sku)
        if (request.kind !== 'receive') want('reserved', request.orderId)
      },
      views: [{ store: 'stock', ...view }],
      create: context => ({
        process: ({ value }) => new Warehouse(context, settings).answer(value),
      }),
    })
}

const pieces = (description: string) => Type.Integer({ description })
const view = {
  name: 'warehouse-stock',
  description: 'What the inventory service has of each product',
  value: {
    received: pieces('All that ever came in: the sum of the others'),
    onHand: pieces('Pieces that no order holds'),
    reserved: pieces('Pieces held for orders that are not shipped'),
    shipped: pieces('Pieces that have left'),
  },
  units: { received: 'pieces', onHand: 'pieces', reserved: 'pieces', shipped: 'pieces' },
}

class Warehouse {
  readonly #context: Context
  readonly #settings: ServiceSettings

  constructor(context: Context, settings: ServiceSettings) {
    this.#context = context
    this.#settings = settings
  }

  answer(request: WarehouseRequest): void {
    if (request.kind === 'receive') this.#receive(request)
    else if (request.kind === 'reserve') this.#reserve(request)
    else if (request.kind === 'refuse') this.#refuse(request)
    else this.#settle(request)
  }

  #level(sku: string): Level {
    return this.#context.store('stock').get(sku) ?? nothing
  }

  /** Moves pieces; amounts may be negative, levels never are. */
  #move(sku: string, by: Partial<Level>): void {
    const { received, onHand, reserved, shipped } = this.#level(sku)
    this.#context.store('stock').put(sku, {
      received: addSafe(received, by.received ?? 0),
      onHand: addSafe(onHand, by.onHand ?? 0),
      reserved: addSafe(reserved, by.reserved ?? 0),
      shipped: addSafe(shipped, by.shipped ?? 0),
    })
  }

  #receive({ items, id }: WarehouseRequest): void {
    for (const { sku, quantity } of items) {
      // What the warehouse itself opened with was counted when it did.
      const isCounted = id === openingId(sku) && this.#level(sku).received > 0
      if (!isCounted) this.#move(sku, { received: quantity, onHand: quantity })
    }
  }

  #reserve(request: OrderRequest): void {
    const { orderId, items, atMs } = request
    const at = atMs + answerDelayMs(this.#settings.seed, orderId, 2)
    for (const { sku } of items) this.#open(sku, request)
    const missing = this.#missing(orderId, items)
    if (missing !== undefined) {
      this.#say(request, { type: 'InventoryRejected', orderId, ...missing, rejectedAt: at })
      return
    }
    this.#context.store('reserved').put(orderId, true)
    for (const { sku, quantity } of items) {
      this.#move(sku, { onHand: -quantity, reserved: quantity })
    }
    this.#say(request, { type: 'InventoryReserved', orderId, items, reservedAt: at })
  }

  /** Nothing is held of an order with more items than it may have. */
  #refuse(request: OrderRequest): void {
    const { orderId, items, atMs } = request
    const rejectedAt = atMs + answerDelayMs(this.#settings.seed, orderId, 2)
    const { sku } = items[0]!
    const reason = 'too-many-items'
    this.#say(request, { type: 'InventoryRejected', orderId, sku, reason, rejectedAt })
  }

  /** A product that is asked for the first time is delivered. */
  #open(sku: string, cause: OrderRequest): void {
    const quantity = this.#settings.openingStock
    if (quantity === 0 || this.#level(sku).received > 0) return
    this.#move(sku, { received: quantity, onHand: quantity })
    const event: BusinessEvent = { type: 'StockReceived', sku, quantity, receivedAt: cause.atMs }
    send(this.#context, sku, message(service, cause, event, openingId(sku)))
  }

  /** Why the order cannot be had; undefined when it can. */
  #missing(orderId: string, items: readonly StockItem[]) {
    const damaged = damagedItem(this.#settings.seed, orderId, items.length)
    if (damaged !== undefined) return { sku: items[damaged]!.sku, reason: 'damaged' }
    const short = items.find(
      // More than an event can say is not had either.
      ({ sku, quantity }) => quantity > intMax || this.#level(sku).onHand < quantity,
    )
    return short && { sku: short.sku, reason: 'out-of-stock' }
  }

  /** Ends a reservation; of an order that has none there is nothing to end. */
  #settle(request: OrderRequest): void {
    const { kind, orderId, items, atMs } = request
    const reservations = this.#context.store('reserved')
    if (reservations.get(orderId) !== true) return
    reservations.delete(orderId)
    for (const { sku, quantity } of items) {
      const to = kind === 'ship' ? { shipped: quantity } : { onHand: quantity }
      this.#move(sku, { reserved: -quantity, ...to })
    }
    if (kind === 'ship') return
    const releasedAt = atMs + answerDelayMs(this.#settings.seed, orderId, 3)
    this.#say(request, { type: 'InventoryReleased', orderId, items, releasedAt })
  }

  #say(request: OrderRequest, event: BusinessEvent & { readonly orderId: string }): void {
    send(this.#context, request.orderId, follow(service, request, event))
  }
}

const openingId = (sku: string) => `${sku}.opening-stock`
