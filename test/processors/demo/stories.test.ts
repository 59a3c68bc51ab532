import { describe, expect, test } from 'vitest'
import type { EventOf, EventType } from '../../../contracts/events.ts'
import { methods } from '../../../processors/demo/customers.ts'
import { products } from '../../../processors/demo/products.ts'
import { busyness, regions } from '../../../processors/demo/regions.ts'
import { backlog, DemoWorld } from '../../../processors/demo/world.ts'

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const dayMs = 24 * hourMs
const monday = Date.UTC(2026, 0, 5)
const days = 2

/** Two days at 4 events a second, by type, without repeated deliveries. */
const byType = new Map<EventType, unknown[]>()
for (const { events } of backlog(
  new DemoWorld({ seed: 2, startMs: monday, ratePerSecond: 4 }),
  monday + days * dayMs,
)) {
  for (const { event, duplicate } of events) {
    if (duplicate) continue
    const list = byType.get(event.type) ?? []
    list.push(event)
    byType.set(event.type, list)
  }
}

function all<T extends EventType>(type: T): readonly EventOf<T>[] {
  return (byType.get(type) ?? []) as EventOf<T>[]
}

const orders = all('OrderCreated')
const orderById = new Map(orders.map(order => [order.orderId, order]))
const authorized = all('PaymentAuthorized')
const declined = all('PaymentDeclined')

function tally(keys: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1)
  return counts
}

describe('orders', () => {
  test('add up, in the currency of their region, with distinct products', () => {
    const wrong = orders.filter(order => {
      const sum = order.items.reduce((total, one) => total + one.quantity * one.unitPriceMinor, 0)
      const distinct = new Set(order.items.map(item => item.sku)).size === order.items.length
      const home = regions.find(({ name }) => name === order.region)
      const currency = home?.currency === order.currency
      return order.totalMinor !== sum || sum <= 0 || !distinct || !currency
    })
    expect(orders.length).toBeGreaterThan(100_000)
    expect(wrong).toEqual([])
  })

  test('have baskets and prices of a shop', () => {
    const euros = orders.filter(order => order.currency === 'EUR')
    const totals = euros.map(order => order.totalMinor).sort((a, b) => a - b)
    expect(totals[Math.floor(totals.length / 2)]).toBeGreaterThan(3000)
    expect(totals[Math.floor(totals.length / 2)]).toBeLessThan(12_000)
    const lines = orders.reduce((sum, order) => sum + order.items.length, 0) / orders.length
    expect(lines).toBeGreaterThan(1.4)
    expect(lines).toBeLessThan(2)
  })

  test('prefer some products: the top tenth sells a third, and all sell', () => {
    const sold = tally(orders.flatMap(order => order.items.map(item => item.sku)))
    const counts = [...sold.values()].sort((a, b) => b - a)
    const total = counts.reduce((sum, count) => sum + count)
    const top = counts.slice(0, products.length / 10).reduce((sum, count) => sum + count)
    expect(sold.size).toBe(products.length)
    expect(products.length).toBeGreaterThanOrEqual(200)
    expect(new Set(products.map(product => product.category)).size).toBe(12)
    expect(top / total).toBeGreaterThan(0.3)
  })

  test('come from customers who return, a few of them often, each in one region', () => {
    const counts = [...tally(orders.map(order => order.customerId)).values()].sort((a, b) => b - a)
    const returning = counts.filter(count => count > 1).length / counts.length
    expect(returning).toBeGreaterThan(0.5)
    expect(counts[0]).toBeGreaterThan((10 * orders.length) / counts.length / 2)
    const homes = new Map<string, string>()
    for (const { customerId, region } of orders) homes.set(customerId, region)
    expect(orders.filter(order => homes.get(order.customerId) !== order.region)).toEqual([])
  })

  test('follow the day of their region, and busyness is 1 on average', () => {
    for (let region = 0; region < regions.length; region += 1) {
      let sum = 0
      for (let quarter = 0; quarter < 4 * 168; quarter += 1) {
        sum += busyness(region, monday + quarter * 15 * minuteMs)
      }
      expect(sum / (4 * 168)).toBeCloseTo(1, 2)
      const offsetMs = regions[region].utcOffsetHours * hourMs
      const hours = new Array<number>(24).fill(0)
      for (const order of orders) {
        if (order.region !== regions[region].name) continue
        hours[Math.floor((order.createdAt + offsetMs) / hourMs) % 24] += 1
      }
      expect(hours[20] + hours[21]).toBeGreaterThan(3 * (hours[3] + hours[4]))
    }
  })

  test('surge in a flash sale now and then', () => {
    const perMinute = tally(
      orders
        .filter(order => order.region === 'us-east')
        .map(order => String(Math.floor(order.createdAt / minuteMs))),
    )
    const firstMinute = monday / minuteMs
    let surges = 0
    for (let minute = firstMinute + 60; minute < firstMinute + days * 1440; minute += 1) {
      const before = Array.from({ length: 60 }, (_, i) => perMinute.get(`${minute - i - 1}`) ?? 0)
      const mean = before.reduce((sum, count) => sum + count) / 60
      const deviation = Math.sqrt(before.reduce((sum, n) => sum + (n - mean) ** 2, 0) / 60)
      if ((perMinute.get(`${minute}`) ?? 0) > mean + 6 * deviation) surges += 1
    }
    expect(surges).toBeGreaterThanOrEqual(1)
    expect(surges).toBeLessThan(60)
  })
})

describe('payments', () => {
  test('are of an order, for its whole amount, at most one of them authorized', () => {
    const paid = tally(authorized.map(payment => payment.orderId))
    expect([...paid.values()].every(count => count === 1)).toBe(true)
    const wrong = [...authorized, ...declined, ...all('PaymentRefunded')].filter(payment => {
      // The order of a payment may itself be delayed beyond the end.
      const order = orderById.get(payment.orderId)
      if (order === undefined) return false
      return payment.amountMinor !== order.totalMinor || payment.currency !== order.currency
    })
    expect(wrong).toEqual([])
    const known = authorized.filter(payment => orderById.has(payment.orderId)).length
    expect(known / authorized.length).toBeGreaterThan(0.999)
  })

  test('follow within the minute mostly, within hours sometimes, never for a few orders', () => {
    const lags = authorized.flatMap(payment => {
      const order = orderById.get(payment.orderId)
      return order === undefined ? [] : [payment.authorizedAt - order.createdAt]
    })
    lags.sort((a, b) => a - b)
    expect(lags[0]).toBeGreaterThanOrEqual(2000)
    const median = lags[Math.floor(lags.length / 2)]
    expect(median).toBeGreaterThan(10_000)
    expect(median).toBeLessThan(40_000)
    const slow = lags.filter(lag => lag > hourMs).length / lags.length
    expect(slow).toBeGreaterThan(0.02)
    expect(slow).toBeLessThan(0.06)
    const settled = orders.filter(order => order.createdAt < monday + (days - 1) * dayMs)
    const paid = new Set(authorized.map(payment => payment.orderId))
    const unpaid = settled.filter(order => !paid.has(order.orderId)).length / settled.length
    expect(unpaid).toBeGreaterThan(0.02)
    expect(unpaid).toBeLessThan(0.08)
  })

  test('are refunded only when authorized, and cancellations have both kinds of order', () => {
    const paid = new Set(authorized.map(payment => payment.orderId))
    const refunds = all('PaymentRefunded')
    const orphans = refunds.filter(refund => !paid.has(refund.orderId)).length
    expect(orphans / refunds.length).toBeLessThan(0.01)
    expect(refunds.length / authorized.length).toBeGreaterThan(0.01)
    expect(refunds.length / authorized.length).toBeLessThan(0.06)
    const cancelled = all('OrderCancelled').map(({ orderId }) => paid.has(orderId))
    expect(new Set(cancelled)).toEqual(new Set([true, false]))
  })

  test('of one customer pile up now and then: more than 3 attempts in 10 minutes', () => {
    const attempts = new Map<string, number[]>()
    const note = (orderId: string, timeMs: number) => {
      const customer = orderById.get(orderId)?.customerId
      if (customer === undefined) return
      const times = attempts.get(customer) ?? []
      times.push(timeMs)
      attempts.set(customer, times)
    }
    for (const payment of authorized) note(payment.orderId, payment.authorizedAt)
    for (const payment of declined) note(payment.orderId, payment.declinedAt)
    let piles = 0
    for (const times of attempts.values()) {
      times.sort((a, b) => a - b)
      if (times.some((time, i) => i >= 3 && time - times[i - 3] <= 10 * minuteMs)) piles += 1
    }
    expect(piles / days).toBeGreaterThan(24)
    expect(piles / days).toBeLessThan(24 * 60)
  })

  test('by one method fail now and then: below 0.8 over an hour with 20 attempts', () => {
    const hours = new Map<string, { authorized: number; attempts: number }>()
    const note = (method: string, timeMs: number, success: number) => {
      const key = `${method} ${Math.floor(timeMs / hourMs)}`
      const hour = hours.get(key) ?? { authorized: 0, attempts: 0 }
      hour.authorized += success
      hour.attempts += 1
      hours.set(key, hour)
    }
    for (const payment of authorized) note(payment.method, payment.authorizedAt, 1)
    for (const payment of declined) note(payment.method, payment.declinedAt, 0)
    const judged = [...hours.values()].filter(hour => hour.attempts >= 20)
    const bad = judged.filter(hour => hour.authorized / hour.attempts < 0.8)
    expect(bad.length).toBeGreaterThanOrEqual(2)
    expect(bad.length / judged.length).toBeLessThan(0.06)
    expect(new Set(authorized.map(payment => payment.method)).size).toBe(methods.length)
  })
})
