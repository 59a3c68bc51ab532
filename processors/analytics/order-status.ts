/**
 * Where each order stands, and what led there: the view `order-status`.
 *
 * in     orders, payments, inventory and fulfilment by orderId, co-partitioned
 * time   each event's own time; the events of an order are folded in the order of their order keys
 * state  one row an order with all its events, kept for ever, changelogged
 * out    status, version and what led there, now or as of any time
 * late   nothing is late; an order of more than 500 events refuses the others as `overflow`
 */
import { type Stream, textKey } from '../../streams/index.ts'
import { orderFact } from '../orders/order-fact.ts'
import { noOrder, type OrderFact, type OrderState, withFact } from '../orders/order-state.ts'
import { orderFactSerde, orderRow, orderRowSchema, orderRowUnits } from '../orders/order-view.ts'
import type { EventStream, OrderStreams } from './event-streams.ts'

export function orderStatusTopology(events: OrderStreams): void {
  const { orders, payments, inventory, fulfilment } = events
  factsOf(orders.merge(payments, inventory, fulfilment))
    .groupByKey({ name: 'facts-by-order', key: textKey('orderId') })
    .aggregate<OrderState | null>({
      name: 'order-status',
      initial: () => null,
      add: (order, fact) => withFact(order ?? noOrder(fact.event.orderId), fact),
      versioned: { historyMs: Number.POSITIVE_INFINITY, value: orderFactSerde },
    })
    .view({
      name: 'order-status',
      description: 'Status of each order and the events that led there, as of any time',
      value: orderRowSchema,
      units: orderRowUnits,
      row: order => (order === null ? undefined : orderRow(order)),
    })
}

function factsOf(events: EventStream): Stream<string, OrderFact> {
  return events.mapValues((event, _key, record) => orderFact(event, record))
}
