/**
 * The inventory service: holds stock for orders that are paid, all items of an order or none.
 *
 * in     orders, payments, fulfilment by orderId; stock by sku. What an order asks of the
 *        warehouse goes there by one exchange to one partition: an order takes several products,
 *        and only one task can take all or nothing (docs/decisions/0013)
 * time   none: an order asks when it is paid, and who asks first is served first
 * state  a row an order, kept for `keepMs`; in the warehouse a row a product, for ever, and one
 *        an order; changelogged; the view `warehouse-stock`
 * out    InventoryReserved or InventoryRejected; InventoryReleased once, on FulfilmentFailed;
 *        StockReceived for the opening stock of a product
 * late   nothing is late; more items than an order may have are put aside by `overflow`, and
 *        rejected if they were paid for all the same, as by an earlier release
 */
import type {
  BusinessEvent,
  FulfilmentFailed,
  OrderCreated,
  OrderFulfilled,
  OrderItem,
  OrderItemsAdded,
  PaymentAuthorized,
  StockItem,
  StockReceived,
} from '../../contracts/events.ts'
import {
  json,
  type ProcessorContext,
  type ProcessorRecord,
  type Stream,
  Topology,
  textKey,
} from '../../streams/index.ts'
import { orderKey } from '../analytics/event-streams.ts'
import { itemsBytes, itemsBytesMax, tooMany } from '../orders/order-items.ts'
import { addSafe } from '../safe-sum.ts'
import { sagaInputs } from './commands.ts'
import { type Cause, causeOf, publish, readEvents } from './messages.ts'
import { rowOf, timedRow } from './order-rows.ts'
import type { ServiceSettings } from './settings.ts'
import { type WarehouseRequest, warehouse } from './warehouse.ts'

/** Items that the order has from a time on, and what they come to. */
interface Version {
  readonly atMs: number
  readonly items: readonly StockItem[]
  readonly totalMinor: number
}

/** A product of too many items, and what the order came to with them. */
interface Refused {
  readonly sku: string
  readonly totalMinor: number
}

const refusedMax = 20

interface Order {
  /** Until it is known what was asked for. */
  readonly created?: Version
  readonly added: readonly Version[]
  /** Of all items that were added, those put aside too. */
  readonly addedBytes?: number
  /** What was put aside, the latest: who has paid for it gets nothing. */
  readonly refused?: readonly Refused[]
  readonly paid?: Cause & { readonly amountMinor: number; readonly authorizedAt: number }
  readonly ended?: Cause & { readonly kind: 'ship' | 'release'; readonly atMs: number }
  /** What was asked for. */
  readonly items?: readonly StockItem[]
  readonly over?: boolean
}

const stores = { orders: { key: orderKey, codec: json<Order>() } } as const
type Context = ProcessorContext<string, typeof stores, string, WarehouseRequest>
type OrderRecord = ProcessorRecord<string, BusinessEvent>

export function inventoryTopology(settings: ServiceSettings): Topology {
  const topology = new Topology('inventory')
  const asked = sagaInputs(
    topology,
    {
      service: 'inventory',
      facts: ['OrderCreated', 'OrderItemsAdded'],
      triggers: ['PaymentAuthorized', 'OrderFulfilled', 'FulfilmentFailed'],
    },
    settings,
  ).process<typeof stores, string, WarehouseRequest>({
    name: 'reservations',
    key: orderKey,
    stores,
    wallClock: true,
    create: context => ({
      process: record => noted(context, record, settings),
      onTimer: timer => void timedRow(context.store('orders'), timer),
    }),
  })
  const out = warehouse(asked.merge(deliveries(topology)), settings)
  publish(out, 'InventoryReserved', 'InventoryRejected', 'InventoryReleased')
  publish(out, 'StockReceived')
  return topology
}

function noted(context: Context, record: OrderRecord, { keepMs }: ServiceSettings): void {
  const { key } = record
  const rows = context.store('orders')
  const before = rowOf(rows, record, context, keepMs)
  rows.put(key, asked(context, key, withEvent(context, before ?? { added: [] }, record)))
}

function withEvent(context: Context, order: Order, record: OrderRecord): Order {
  const { value: event } = record
  switch (event.type) {
    case 'OrderCreated': {
      if (order.created !== undefined || order.items !== undefined) return order
      const bytes = itemsBytes(event.items)
      if (bytes > itemsBytesMax) return refused(context, order, { event, bytes })
      return { ...order, created: versionOf(event) }
    }
    case 'OrderItemsAdded': {
      const addedBytes = (order.addedBytes ?? 0) + itemsBytes(event.items)
      if (addedBytes > itemsBytesMax) {
        return refused(context, { ...order, addedBytes }, { event, bytes: addedBytes })
      }
      if (order.items !== undefined) return { ...order, addedBytes }
      return { ...order, added: [...order.added, versionOf(event)], addedBytes }
    }
    case 'PaymentAuthorized':
      return order.paid === undefined ? { ...order, paid: payment(event, record) } : order
    case 'OrderFulfilled':
    case 'FulfilmentFailed':
      return order.ended === undefined ? { ...order, ended: ending(event, record) } : order
    default:
      return order
  }
}

/** Asks for what has been paid once it is known, and says what became of it. */
function asked(context: Context, orderId: string, order: Order): Order {
  let { items, over } = order
  const { paid, ended } = order
  if (items === undefined && paid !== undefined) {
    items = paidFor(order, paid)
    const { amountMinor: _, authorizedAt: atMs, ...cause } = paid
    if (items !== undefined) {
      context.forward(warehouseKey, { kind: 'reserve', orderId, items, ...cause, atMs })
    }
  }
  if (items !== undefined && ended !== undefined && over !== true) {
    context.forward(warehouseKey, { ...ended, orderId, items })
    over = true
  }
  const paidInVain = order.refused?.find(({ totalMinor }) => totalMinor === paid?.amountMinor)
  if (items === undefined && paid !== undefined && paidInVain !== undefined) {
    const { amountMinor: _, authorizedAt: atMs, ...cause } = paid
    items = [{ sku: paidInVain.sku, quantity: 1 }]
    context.forward(warehouseKey, { kind: 'refuse', orderId, items, ...cause, atMs })
    over = true
  }
  if (items === undefined) return order
  const { created: _, ...rest } = order
  return { ...rest, added: [], items, ...(over && { over }) }
}

interface TooMany {
  readonly event: OrderCreated | OrderItemsAdded
  /** With what was added before. */
  readonly bytes: number
}

/** Puts an event aside, and notes what the order would have come to. */
function refused(context: Context, order: Order, { event, bytes }: TooMany): Order {
  context.drop('overflow', tooMany(event.orderId, bytes))
  const [first] = event.items
  if (first === undefined) return order
  const latest = [...(order.refused ?? []), { sku: first.sku, totalMinor: event.totalMinor }]
  return { ...order, refused: latest.slice(-refusedMax) }
}

/** All requests have one key, so that they meet in one task. */
const warehouseKey = 'warehouse'

/**
 * The items of the order as it was paid: up to the last addition before the payment that comes to
 * its amount. Undefined while that is not known: what is paid for was in the log before it.
 */
function paidFor(
  { created, added }: Order,
  { amountMinor, authorizedAt }: NonNullable<Order['paid']>,
): readonly StockItem[] | undefined {
  if (created === undefined) return undefined
  const before = added.filter(({ atMs }) => atMs >= created.atMs && atMs <= authorizedAt)
  const versions = [created, ...before.toSorted((a, b) => a.atMs - b.atMs)]
  const last = versions.findLastIndex(({ totalMinor }) => totalMinor === amountMinor)
  if (last < 0) return undefined
  return summed(versions.slice(0, last + 1).flatMap(({ items }) => items))
}

/** One entry a product, by its sku. */
function summed(items: readonly StockItem[]): StockItem[] {
  const quantities = new Map<string, number>()
  for (const { sku, quantity } of items) {
    quantities.set(sku, addSafe(quantities.get(sku) ?? 0, quantity))
  }
  return [...quantities]
    .map(([sku, quantity]) => ({ sku, quantity }))
    .sort((a, b) => (a.sku < b.sku ? -1 : 1))
}

function versionOf(event: OrderCreated | OrderItemsAdded): Version {
  const items = event.items.map(({ sku, quantity }: OrderItem) => ({ sku, quantity }))
  const atMs = event.type === 'OrderCreated' ? event.createdAt : event.addedAt
  return { atMs, items, totalMinor: event.totalMinor }
}

function payment({ amountMinor, authorizedAt }: PaymentAuthorized, record: OrderRecord) {
  return { ...causeOf(record), amountMinor, authorizedAt }
}

function ending(event: OrderFulfilled | FulfilmentFailed, record: OrderRecord) {
  const cause = causeOf(record)
  if (event.type === 'OrderFulfilled') {
    return { ...cause, kind: 'ship' as const, atMs: event.fulfilledAt }
  }
  return { ...cause, kind: 'release' as const, atMs: event.failedAt }
}

/** What comes in, for the warehouse. */
function deliveries(topology: Topology): Stream<string, WarehouseRequest> {
  return readEvents(topology, 'StockReceived').process<
    Record<string, never>,
    string,
    WarehouseRequest
  >({
    name: 'deliveries',
    key: textKey('sku'),
    stores: {},
    create: context => ({
      process: record => {
        const { sku, quantity, receivedAt: atMs } = record.value as StockReceived
        const items = [{ sku, quantity }]
        context.forward(warehouseKey, { kind: 'receive', items, ...causeOf(record), atMs })
      },
    }),
  })
}
