/**
 * What is paid: the views `revenue`, minute by minute, and `revenue-trend`, over the last hour.
 *
 * in     paid orders, re-keyed by region and currency
 * time   authorizedAt; tumbling 1 min, and hopping 1 h every 5 min; grace 10 min
 * state  one row a window, region and currency, kept for the view's retention, changelogged
 * out    paidOrders, revenueMinor = Σ amountMinor, from a window's first payment on
 * late   payments after end + grace go to the dead letters, counted
 */
import { Type } from 'typebox'
import {
  fieldsKey,
  type GroupedStream,
  hopping,
  type Stream,
  type TimeWindows,
  tumbling,
} from '../../streams/index.ts'
import { addSafe } from '../safe-sum.ts'
import type { PaymentAttempt } from './payment-attempts.ts'
import { graceMs, hourMs, minuteMs, type ViewSettings } from './view-times.ts'

export interface Revenue {
  readonly paidOrders: number
  readonly revenueMinor: number
}

export interface RegionKey {
  readonly region: string
  readonly currency: string
}

export type PaidByRegion = GroupedStream<RegionKey, PaymentAttempt>

export function paidByRegion(attempts: Stream<string, PaymentAttempt>): PaidByRegion {
  return attempts
    .filter(({ isAuthorized }) => isAuthorized)
    .groupBy(({ region, currency }) => ({ region, currency }), {
      name: 'paid-by-region',
      key: fieldsKey('region', 'currency'),
    })
}

export function revenueTopology(paid: PaidByRegion, settings: ViewSettings): void {
  revenueView(paid, settings, {
    name: 'revenue',
    windows: tumbling(minuteMs, { graceMs }),
    description: 'Orders paid and revenue a minute, by region and currency',
  })
  revenueView(paid, settings, {
    name: 'revenue-trend',
    windows: hopping(hourMs, { advanceMs: 5 * minuteMs, graceMs }),
    description: 'Orders paid and revenue of an hour, every 5 minutes, by region and currency',
  })
}

interface RevenueView {
  readonly name: string
  readonly windows: TimeWindows
  readonly description: string
}

function revenueView(
  paid: PaidByRegion,
  { retentionMs }: ViewSettings,
  { name, windows, description }: RevenueView,
): void {
  paid
    .windowedBy(windows)
    .aggregate<Revenue>({
      name,
      initial: () => ({ paidOrders: 0, revenueMinor: 0 }),
      add: (revenue, { amountMinor }) => ({
        paidOrders: revenue.paidOrders + 1,
        revenueMinor: addSafe(revenue.revenueMinor, amountMinor),
      }),
      retentionMs,
    })
    .view({
      name,
      description,
      value: {
        paidOrders: Type.Integer({ description: 'Orders paid' }),
        revenueMinor: Type.Integer({ description: 'Sum of the authorized amounts' }),
      },
      units: { revenueMinor: 'minor currency units' },
    })
}
