/**
 * Payments with their orders: what the revenue views sum up, and the attempts of each customer.
 *
 * in     orders and payments by orderId, co-partitioned
 * time   payment within 24 h of the order, in either order; grace 10 min; a result has the
 *        payment's time
 * state  one store a side, kept for reach + grace, changelogged
 * out    one PaymentAttempt for each pair of an OrderCreated and a PaymentAuthorized or -Declined
 * late   records later than their reach + grace go to the dead letters, counted
 */
import type { PaymentAuthorized, PaymentDeclined } from '../../contracts/events.ts'
import { eventTimeOf } from '../../contracts/topics.ts'
import type { Stream } from '../../streams/index.ts'
import { type EventStreams, ofType } from './event-streams.ts'
import { graceMs, paymentReachMs } from './view-times.ts'

export interface PaymentAttempt {
  readonly customerId: string
  readonly region: string
  /** The payment's: what `amountMinor` is counted in. */
  readonly currency: string
  readonly amountMinor: number
  readonly isAuthorized: boolean
  /** From the order to this attempt, ms; negative where their clocks disagree. */
  readonly afterMs: number
}

type Attempted = PaymentAuthorized | PaymentDeclined

export function paymentAttemptsTopology(events: EventStreams): Stream<string, PaymentAttempt> {
  const attempts = events.payments.only(
    (event): event is Attempted =>
      event.type === 'PaymentAuthorized' || event.type === 'PaymentDeclined',
  )
  return ofType(events.orders, 'OrderCreated').join(
    attempts,
    ({ customerId, region, createdAt }, payment): PaymentAttempt => ({
      customerId,
      region,
      currency: payment.currency,
      amountMinor: payment.amountMinor,
      isAuthorized: payment.type === 'PaymentAuthorized',
      afterMs: eventTimeOf(payment) - createdAt,
    }),
    {
      name: 'payment-attempts',
      beforeMs: paymentReachMs,
      afterMs: paymentReachMs,
      graceMs,
      time: 'right',
    },
  )
}
