/**
 * What sells best, hour by hour: the view `top-products`.
 *
 * in     orders by orderId, one record an item, re-keyed by currency
 * time   createdAt; tumbling 1 h, grace 10 min
 * state  one row a window, currency and product until the window closes, one row a rank for the
 *        view's retention; changelogged
 * out    the ten products with the highest grossMinor = Σ quantity × unitPriceMinor, then by sku
 * late   items of orders after end + grace go to the dead letters, counted
 */
import { Type } from 'typebox'
import { textKey, tumbling } from '../../streams/index.ts'
import { addSafe, multiplySafe } from '../safe-sum.ts'
import { type EventStreams, ofType } from './event-streams.ts'
import { graceMs, hourMs, type ViewSettings } from './view-times.ts'

interface Sold {
  readonly quantity: number
  readonly grossMinor: number
}

const RANKS = 10

export function topProductsTopology({ orders }: EventStreams, settings: ViewSettings): void {
  ofType(orders, 'OrderCreated')
    .flatMap(({ currency, items }) => items.map(item => [currency, item] as const))
    .groupByKey({ name: 'items-by-currency', key: textKey('currency') })
    .windowedBy(tumbling(hourMs, { graceMs }))
    .topK<Sold>({
      name: 'top-products',
      k: RANKS,
      item: ({ sku }) => sku,
      initial: () => ({ quantity: 0, grossMinor: 0 }),
      add: (sold, { quantity, unitPriceMinor }) => ({
        quantity: addSafe(sold.quantity, quantity),
        grossMinor: addSafe(sold.grossMinor, multiplySafe(quantity, unitPriceMinor)),
      }),
      score: sold => sold.grossMinor,
      retentionMs: settings.retentionMs,
    })
    .view({
      name: 'top-products',
      description: 'The ten best-selling products an hour, by currency',
      value: {
        sku: Type.String({ description: 'Product' }),
        quantity: Type.Integer({ description: 'Items ordered' }),
        grossMinor: Type.Integer({ description: 'Sum of quantity × unit price' }),
      },
      units: { grossMinor: 'minor currency units' },
      row: ({ item, value }) => ({ sku: item, ...value }),
    })
}
