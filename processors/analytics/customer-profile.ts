/**
 * What each customer has ordered so far: the view `customer-profile`.
 *
 * in     orders by orderId, re-keyed by customer
 * time   createdAt; no window
 * state  one row a customer, kept for ever, changelogged
 * out    sums, extremes and the favourite category: the same in whatever order orders arrive
 * late   nothing is late for a table
 */
import { Type } from 'typebox'
import type { OrderCreated } from '../../contracts/events.ts'
import { textKey } from '../../streams/index.ts'
import { addSafe } from '../safe-sum.ts'
import { type EventStreams, ofType } from './event-streams.ts'

type Sums = Readonly<Record<string, number>>

interface Profile {
  readonly orders: number
  readonly spendMinor: Sums
  readonly firstOrderAt: number
  readonly lastOrderAt: number
  /** Items ordered, by category. */
  readonly categories: Sums
}

export function customerProfileTopology({ orders }: EventStreams): void {
  ofType(orders, 'OrderCreated')
    .groupBy(({ customerId }) => customerId, {
      name: 'orders-by-customer',
      key: textKey('customerId'),
    })
    .aggregate<Profile>({
      name: 'customer-profile',
      initial: () => ({
        orders: 0,
        spendMinor: {},
        firstOrderAt: Number.MAX_SAFE_INTEGER,
        lastOrderAt: 0,
        categories: {},
      }),
      add: withOrder,
    })
    .view({
      name: 'customer-profile',
      description: 'Orders, spending and taste of each customer',
      value: {
        orders: Type.Integer({ description: 'Orders created' }),
        spendMinor: Type.Record(Type.String(), Type.Integer(), {
          description: 'Sum of the order totals, by currency',
        }),
        firstOrderAt: Type.Integer({ description: 'Time of the first order, epoch ms' }),
        lastOrderAt: Type.Integer({ description: 'Time of the last order, epoch ms' }),
        favouriteCategory: Type.Union([Type.String(), Type.Null()], {
          description: 'Category with most items, the first by name of several; null without items',
        }),
      },
      units: { spendMinor: 'minor currency units', firstOrderAt: 'ms', lastOrderAt: 'ms' },
      row: profile => ({
        orders: profile.orders,
        spendMinor: sorted(profile.spendMinor),
        firstOrderAt: profile.firstOrderAt,
        lastOrderAt: profile.lastOrderAt,
        favouriteCategory: favourite(profile.categories),
      }),
    })
}

function withOrder(profile: Profile, order: OrderCreated): Profile {
  let { categories } = profile
  for (const { category, quantity } of order.items) {
    categories = plus(categories, category, quantity)
  }
  return {
    orders: profile.orders + 1,
    spendMinor: plus(profile.spendMinor, order.currency, order.totalMinor),
    firstOrderAt: Math.min(profile.firstOrderAt, order.createdAt),
    lastOrderAt: Math.max(profile.lastOrderAt, order.createdAt),
    categories,
  }
}

/** Names come from outside: `__proto__` is one like any other. */
function plus(sums: Sums, name: string, amount: number): Sums {
  const before = Object.hasOwn(sums, name) ? sums[name] : 0
  return { ...sums, [name]: addSafe(before, amount) }
}

/** By name, so that a row reads the same whatever order its sums came in. */
function sorted(sums: Sums): Sums {
  return Object.fromEntries(Object.entries(sums).sort(([a], [b]) => (a < b ? -1 : 1)))
}

function favourite(categories: Sums): string | null {
  let best: readonly [string, number] | undefined
  for (const entry of Object.entries(categories)) {
    const [name, items] = entry
    const isMore = best === undefined || items > best[1] || (items === best[1] && name < best[0])
    if (isMore) best = entry
  }
  return best?.[0] ?? null
}
