/**
 * Visits in which customers order: the view `customer-sessions`.
 *
 * in     orders by orderId, re-keyed by customer and currency
 * time   createdAt; sessions with a gap of 30 min, grace 10 min
 * state  one row a session, kept for the view's retention, changelogged
 * out    orders, spendMinor = Σ totalMinor; the window is the first and last order of the session
 * late   orders whose time + grace is before their stream time go to the dead letters, counted
 */
import { Type } from 'typebox'
import { fieldsKey, sessions } from '../../streams/index.ts'
import { addSafe } from '../safe-sum.ts'
import { type EventStreams, ofType } from './event-streams.ts'
import { graceMs, sessionGapMs, type ViewSettings } from './view-times.ts'

interface Visit {
  readonly orders: number
  readonly spendMinor: number
}

export function customerSessionsTopology({ orders }: EventStreams, settings: ViewSettings): void {
  ofType(orders, 'OrderCreated')
    .groupBy(({ customerId, currency }) => ({ customerId, currency }), {
      name: 'orders-by-customer-and-currency',
      key: fieldsKey('customerId', 'currency'),
    })
    .windowedBy(sessions(sessionGapMs, { graceMs }))
    .aggregate<Visit>({
      name: 'customer-sessions',
      initial: () => ({ orders: 0, spendMinor: 0 }),
      add: (visit, { totalMinor }) => ({
        orders: visit.orders + 1,
        spendMinor: addSafe(visit.spendMinor, totalMinor),
      }),
      merge: (left, right) => ({
        orders: left.orders + right.orders,
        spendMinor: addSafe(left.spendMinor, right.spendMinor),
      }),
      retentionMs: settings.retentionMs,
    })
    .view({
      name: 'customer-sessions',
      description: 'Runs of orders no more than 30 minutes apart, by customer and currency',
      value: {
        orders: Type.Integer({ description: 'Orders created in the session' }),
        spendMinor: Type.Integer({ description: 'Sum of their totals' }),
      },
      units: { spendMinor: 'minor currency units' },
    })
}
