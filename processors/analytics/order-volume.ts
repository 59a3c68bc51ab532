/**
 * What is ordered, minute by minute: the view `order-volume`.
 *
 * in     orders by orderId, re-keyed by region and currency
 * time   createdAt; tumbling 1 min, grace 10 min
 * state  one row a window, region and currency, kept for the view's retention, changelogged
 * out    orders, items = Σ quantity, grossMinor = Σ totalMinor, from a window's first order on
 * late   orders after end + grace go to the dead letters, counted
 */
import { Type } from 'typebox'
import type { OrderCreated } from '../../contracts/events.ts'
import { fieldsKey, tumbling } from '../../streams/index.ts'
import { addSafe } from '../safe-sum.ts'
import { type EventStreams, ofType } from './event-streams.ts'
import { graceMs, minuteMs, type ViewSettings } from './view-times.ts'

interface Volume {
  readonly orders: number
  readonly items: number
  readonly grossMinor: number
}

export function orderVolumeTopology({ orders }: EventStreams, settings: ViewSettings): void {
  ofType(orders, 'OrderCreated')
    .groupBy(({ region, currency }) => ({ region, currency }), {
      name: 'orders-by-region',
      key: fieldsKey('region', 'currency'),
    })
    .windowedBy(tumbling(minuteMs, { graceMs }))
    .aggregate<Volume>({
      name: 'order-volume',
      initial: () => ({ orders: 0, items: 0, grossMinor: 0 }),
      add: (volume, order) => ({
        orders: addSafe(volume.orders, 1),
        items: addSafe(volume.items, itemsOf(order)),
        grossMinor: addSafe(volume.grossMinor, order.totalMinor),
      }),
      retentionMs: settings.retentionMs,
    })
    .view({
      name: 'order-volume',
      description: 'Orders, items and gross value a minute, by region and currency',
      value: {
        orders: Type.Integer({ description: 'Orders created' }),
        items: Type.Integer({ description: 'Items ordered: the sum of all quantities' }),
        grossMinor: Type.Integer({ description: 'Sum of the order totals' }),
      },
      units: { grossMinor: 'minor currency units' },
    })
}

function itemsOf({ items }: OrderCreated): number {
  let quantity = 0
  for (const item of items) quantity = addSafe(quantity, item.quantity)
  return quantity
}
