/**
 * What is in stock: the view `inventory-levels`.
 *
 * in     stock by sku; inventory and fulfilments by orderId, what they move re-keyed by sku
 * time   no window
 * state  one row an order with what it has reserved, one row a product; kept for ever, changelogged
 * out    onHand and reserved: sums, the same in whatever order events arrive
 * late   nothing is late for a table
 *
 * On hand is what no order has: what came in is on hand, reserved or shipped. An order that is
 * fulfilled ships what it has reserved, whichever of the two events comes first.
 */
import { Type } from 'typebox'
import type { BusinessEvent, StockItem } from '../../contracts/events.ts'
import { inputPartitions } from '../../contracts/topics.ts'
import { json, type ProcessorContext, type Stream, textKey } from '../../streams/index.ts'
import { addSafe } from '../safe-sum.ts'
import { type EventStreams, ofType, orderKey } from './event-streams.ts'

/** Pieces of one product: what is added to each. */
interface Levels {
  readonly onHand: number
  readonly reserved: number
}

/** What an order has. */
interface Reservation {
  readonly items: readonly StockItem[]
  readonly isShipped: boolean
}

const moving = ['InventoryReserved', 'InventoryReleased', 'OrderFulfilled'] as const
type Moving = Extract<BusinessEvent, { readonly type: (typeof moving)[number] }>

const skuKey = textKey('sku')
const stores = { orders: { key: orderKey, codec: json<Reservation>() } } as const
type Context = ProcessorContext<string, typeof stores, string, Levels>

export function inventoryLevelsTopology(events: EventStreams): void {
  const partitions = inputPartitions
  ofType(events.stock, 'StockReceived')
    .mapValues(({ quantity }): Levels => ({ onHand: quantity, reserved: 0 }))
    .repartition({ name: 'stock-by-sku', key: skuKey, partitions })
    .merge(moved(events).repartition({ name: 'reservations-by-sku', key: skuKey, partitions }))
    .groupByKey({ name: 'levels-by-sku', key: skuKey })
    .aggregate<Levels>({
      name: 'inventory-levels',
      initial: () => ({ onHand: 0, reserved: 0 }),
      add: (levels, change) => ({
        onHand: addSafe(levels.onHand, change.onHand),
        reserved: addSafe(levels.reserved, change.reserved),
      }),
    })
    .view({
      name: 'inventory-levels',
      description: 'Pieces of each product in stock: received = onHand + reserved + shipped',
      value: {
        onHand: Type.Integer({
          description: 'Pieces that no order has; below 0 where more were reserved than came in',
        }),
        reserved: Type.Integer({ description: 'Pieces reserved by orders and not shipped yet' }),
      },
    })
}

function moved({ inventory, fulfilment }: EventStreams): Stream<string, Levels> {
  return inventory
    .merge(fulfilment)
    .only((event): event is Moving => (moving as readonly string[]).includes(event.type))
    .process<typeof stores, string, Levels>({
      name: 'reservations',
      key: orderKey,
      stores,
      create: context => ({ process: ({ key, value }) => move(context, key, value) }),
    })
}

function move(context: Context, orderId: string, event: Moving): void {
  const rows = context.store('orders')
  const { items, isShipped } = rows.get(orderId) ?? { items: [], isShipped: false }
  if (event.type === 'OrderFulfilled') {
    if (isShipped) return
    for (const { sku, quantity } of items) context.forward(sku, { onHand: 0, reserved: -quantity })
    rows.put(orderId, { items, isShipped: true })
    return
  }
  const sign = event.type === 'InventoryReserved' ? 1 : -1
  const held = new Map(items.map(({ sku, quantity }) => [sku, quantity]))
  for (const { sku, quantity } of event.items) {
    const taken = sign * quantity
    held.set(sku, addSafe(held.get(sku) ?? 0, taken))
    context.forward(sku, { onHand: 0 - taken, reserved: isShipped ? 0 : taken })
  }
  const left = [...held].map(([sku, quantity]) => ({ sku, quantity }))
  rows.put(orderId, { items: left, isShipped })
}
