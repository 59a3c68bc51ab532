/**
 * Orders that nobody paid in time: the view `unpaid-orders`.
 *
 * in     orders and payments by orderId, co-partitioned
 * time   no payment within 24 h of the order, in either order; grace 10 min
 * state  one store a side and the unmatched orders, until 24 h + grace have passed; one row an
 *        unpaid order, kept for ever; changelogged
 * out    each unpaid order once, when 24 h + grace have passed
 * late   records later than their reach + grace go to the dead letters, counted
 */
import { Type } from 'typebox'
import type { OrderCreated } from '../../contracts/events.ts'
import { type EventStreams, ofType, orderKey } from './event-streams.ts'
import { graceMs, paymentReachMs } from './view-times.ts'

interface UnpaidOrder {
  readonly customerId: string
  readonly totalMinor: number
  readonly currency: string
  readonly createdAt: number
}

export function unpaidOrdersTopology({ orders, payments }: EventStreams): void {
  ofType(orders, 'OrderCreated')
    .leftJoin(
      ofType(payments, 'PaymentAuthorized'),
      (order, payment) => (payment === null ? unpaid(order) : null),
      { name: 'order-payment', beforeMs: paymentReachMs, afterMs: paymentReachMs, graceMs },
    )
    .only((result): result is UnpaidOrder => result !== null)
    .groupByKey({ name: 'unpaid-by-order', key: orderKey })
    .reduce({ name: 'unpaid-orders', reduce: (_before, order) => order })
    .view({
      name: 'unpaid-orders',
      description: 'Orders without a payment within 24 hours',
      value: {
        customerId: Type.String({ description: 'Who ordered' }),
        totalMinor: Type.Integer({ description: 'What is owed' }),
        currency: Type.String({ description: 'Currency of the total' }),
        createdAt: Type.Integer({ description: 'When it was ordered, epoch ms' }),
      },
      units: { totalMinor: 'minor currency units', createdAt: 'ms' },
    })
}

function unpaid({ customerId, totalMinor, currency, createdAt }: OrderCreated): UnpaidOrder {
  return { customerId, totalMinor, currency, createdAt }
}
