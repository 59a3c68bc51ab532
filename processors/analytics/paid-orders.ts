/**
 * Orders with their payments: what the revenue views sum up.
 *
 * in     orders and payments by orderId, co-partitioned
 * time   payment within 24 h of the order, in either order; grace 10 min; a result has the
 *        payment's time
 * state  one store a side, kept for reach + grace, changelogged
 * out    one PaidOrder for each pair of an OrderCreated and a PaymentAuthorized
 * late   records later than their reach + grace go to the dead letters, counted
 */
import type { Stream } from '../../streams/index.ts'
import { type EventStreams, ofType } from './event-streams.ts'
import { graceMs, paymentReachMs } from './view-times.ts'

export interface PaidOrder {
  readonly region: string
  /** The payment's: what `amountMinor` is counted in. */
  readonly currency: string
  readonly amountMinor: number
}

export function paidOrdersTopology({ orders, payments }: EventStreams): Stream<string, PaidOrder> {
  return ofType(orders, 'OrderCreated').join(
    ofType(payments, 'PaymentAuthorized'),
    ({ region }, { currency, amountMinor }) => ({ region, currency, amountMinor }),
    {
      name: 'paid-orders',
      beforeMs: paymentReachMs,
      afterMs: paymentReachMs,
      graceMs,
      time: 'right',
    },
  )
}
