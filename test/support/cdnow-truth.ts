/**
 * What the views must show of the CDNOW purchases, computed from the raw file. It shares nothing
 * with the engine, nor with the mapper but the mapping that test/data/README.md writes down.
 */
import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'

export interface Session {
  readonly customerId: string
  /** Times of the first and the last order, epoch ms. */
  readonly firstAt: number
  readonly lastAt: number
  readonly orders: number
  readonly spendMinor: number
}

export interface CustomerTotals {
  readonly customerId: string
  readonly orders: number
  readonly spendMinor: number
  readonly firstOrderAt: number
  readonly lastOrderAt: number
}

/** Of the orders created in a window: what `order-volume` counts. */
export interface Volume {
  readonly orders: number
  readonly items: number
  readonly grossMinor: number
}

/** Of the payments authorized in a window: what `revenue` counts. */
export interface Revenue {
  readonly paidOrders: number
  readonly revenueMinor: number
}

export interface CdnowTruth {
  readonly purchases: number
  /** Purchases with something to pay. */
  readonly payments: number
  /** By month of the payment, `1997-01`: minor units. */
  readonly revenueByMonth: ReadonlyMap<string, number>
  /** In order of id. */
  readonly customers: readonly CustomerTotals[]
  /** In order of customer id, then time. */
  readonly sessions: readonly Session[]
  /** Distinct customers with an order, by start of the hour, epoch ms. */
  readonly customersByHour: ReadonlyMap<number, number>
  /** By start of the minute, epoch ms. */
  readonly volumeByMinute: ReadonlyMap<number, Volume>
  readonly revenueByMinute: ReadonlyMap<number, Revenue>
}

interface Purchase {
  readonly customerId: string
  readonly orderedAt: number
  readonly paidAt: number
  readonly items: number
  readonly minor: number
}

const sessionGapMs = 30 * 60_000

function readPurchases(path: string): Purchase[] {
  const [, ...lines] = gunzipSync(readFileSync(path)).toString('ascii').trimEnd().split('\n')
  return lines.map((line, at) => {
    const number = at + 1
    const customerId = `c-${line.slice(1, 6)}`
    const day = line.slice(7, 15)
    const rest = line.slice(15).match(/[0-9]+/g)!
    const year = Number(day) / 10_000
    const orderedAt =
      Date.UTC(Math.floor(year), (Math.floor(Number(day) / 100) % 100) - 1, Number(day) % 100, 12) +
      30_000 * (number % 720)
    return {
      customerId,
      orderedAt,
      paidAt: orderedAt + 1000 * (1 + (number % 20)),
      items: Number(rest[0]),
      minor: 100 * Number(rest[1]) + Number(rest[2]),
    }
  })
}

function byKey<K, T>(entries: readonly T[], keyOf: (entry: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>()
  for (const entry of entries) {
    const key = keyOf(entry)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [entry])
    else group.push(entry)
  }
  return groups
}

function mapped<K, T, U>(groups: ReadonlyMap<K, T[]>, of: (group: T[]) => U): Map<K, U> {
  return new Map(Array.from(groups, ([key, group]) => [key, of(group)]))
}

function minorOf(purchases: readonly Purchase[]): number {
  let sum = 0n
  for (const purchase of purchases) sum += BigInt(purchase.minor)
  return Number(sum)
}

/** Purchases of one customer, in time order, cut where more than the gap lies between two. */
function sessionsOf(customerId: string, purchases: readonly Purchase[]): Session[] {
  const sessions: Purchase[][] = []
  for (const purchase of purchases) {
    const last = sessions.at(-1)?.at(-1)
    if (last !== undefined && purchase.orderedAt - last.orderedAt <= sessionGapMs) {
      sessions.at(-1)!.push(purchase)
    } else {
      sessions.push([purchase])
    }
  }
  return sessions.map(session => ({
    customerId,
    firstAt: session[0].orderedAt,
    lastAt: session.at(-1)!.orderedAt,
    orders: session.length,
    spendMinor: minorOf(session),
  }))
}

function totalsOf(customerId: string, purchases: readonly Purchase[]): CustomerTotals {
  return {
    customerId,
    orders: purchases.length,
    spendMinor: minorOf(purchases),
    firstOrderAt: purchases[0].orderedAt,
    lastOrderAt: purchases.at(-1)!.orderedAt,
  }
}

export function cdnowTruth(path: string): CdnowTruth {
  const purchases = readPurchases(path).sort((a, b) => a.orderedAt - b.orderedAt)
  const paid = purchases.filter(purchase => purchase.minor > 0)
  const groups = [...byKey(purchases, purchase => purchase.customerId)].sort((a, b) =>
    a[0] < b[0] ? -1 : 1,
  )
  const floor = (timeMs: number, sizeMs: number) => timeMs - (timeMs % sizeMs)
  return {
    purchases: purchases.length,
    payments: paid.length,
    revenueByMonth: mapped(
      byKey(paid, purchase => new Date(purchase.paidAt).toISOString().slice(0, 7)),
      minorOf,
    ),
    customers: groups.map(([customerId, group]) => totalsOf(customerId, group)),
    sessions: groups.flatMap(([customerId, group]) => sessionsOf(customerId, group)),
    customersByHour: mapped(
      byKey(purchases, purchase => floor(purchase.orderedAt, 3_600_000)),
      group => new Set(group.map(purchase => purchase.customerId)).size,
    ),
    volumeByMinute: mapped(
      byKey(purchases, purchase => floor(purchase.orderedAt, 60_000)),
      group => ({
        orders: group.length,
        items: group.reduce((sum, purchase) => sum + purchase.items, 0),
        grossMinor: minorOf(group),
      }),
    ),
    revenueByMinute: mapped(
      byKey(paid, purchase => floor(purchase.paidAt, 60_000)),
      group => ({ paidOrders: group.length, revenueMinor: minorOf(group) }),
    ),
  }
}

/** The customers who spent most, then by id. */
export function topCustomers(truth: CdnowTruth, count: number): readonly CustomerTotals[] {
  return truth.customers
    .toSorted((a, b) => b.spendMinor - a.spendMinor || (a.customerId < b.customerId ? -1 : 1))
    .slice(0, count)
}
