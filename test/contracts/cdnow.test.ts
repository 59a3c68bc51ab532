import { describe, expect, test } from 'vitest'
import { decodeEvent } from '../../contracts/event-codec.ts'
import { validateEventLine } from '../../contracts/validation.ts'
import { cdnowLines, cdnowPath } from '../support/cdnow.ts'
import { cdnowTruth, topCustomers } from '../support/cdnow-truth.ts'

const lines = cdnowLines()
const truth = cdnowTruth(cdnowPath)
const context = { nowMs: Date.UTC(1998, 6, 1), newId: () => 'none', source: 'cdnow' }
const records = lines.map(line => {
  const verdict = validateEventLine(line, context)
  if (!verdict.ok) throw new Error(`${verdict.detail}: ${line}`)
  return verdict.record
})
const events = records.map(({ value }) => decodeEvent(value, 0, value.length))
const orders = events.filter(event => event.type === 'OrderCreated')
const payments = events.filter(event => event.type === 'PaymentAuthorized')

// The sums were taken from the raw file by awk.
describe('the CDNOW data', () => {
  test('has the known totals', () => {
    expect(truth).toMatchObject({ purchases: 69_659, payments: 69_579 })
    expect(truth.customers.length).toBe(23_570)
    const sum = (numbers: Iterable<number>) => [...numbers].reduce((a, b) => a + b, 0)
    expect(sum(truth.revenueByMonth.values())).toBe(250_031_563)
    expect(sum(truth.customers.map(customer => customer.spendMinor))).toBe(250_031_563)
    expect(sum([...truth.volumeByMinute.values()].map(volume => volume.items))).toBe(167_881)
    expect(sum(truth.sessions.map(session => session.orders))).toBe(69_659)
    expect(sum([...truth.revenueByMinute.values()].map(minute => minute.paidOrders))).toBe(69_579)
  })

  test('has the known months and the known best customer', () => {
    expect(truth.revenueByMonth.size).toBe(18)
    expect(truth.revenueByMonth.get('1997-01')).toBe(29_906_017)
    expect(truth.revenueByMonth.get('1997-03')).toBe(39_315_527)
    expect(truth.revenueByMonth.get('1998-06')).toBe(7_610_930)
    const [first, second] = topCustomers(truth, 2)
    expect(first).toMatchObject({ customerId: 'c-07592', spendMinor: 1_399_093 })
    expect(second.spendMinor).toBeLessThan(1_399_093)
  })

  test('has sessions of one and of several orders, cut by the gap', () => {
    expect(truth.sessions.length).toBeLessThan(69_659)
    expect(truth.sessions.length).toBeGreaterThan(69_659 - 2068)
    expect(truth.sessions.every(session => session.firstAt <= session.lastAt)).toBe(true)
    // Lines 2 and 3: one customer and day, 30 s apart.
    expect(truth.sessions[1]).toEqual({
      customerId: 'c-00002',
      firstAt: Date.UTC(1997, 0, 12, 12, 1),
      lastAt: Date.UTC(1997, 0, 12, 12, 1, 30),
      orders: 2,
      spendMinor: 8900,
    })
  })
})

describe('the CDNOW event lines', () => {
  test('are all valid, in time order, an order before its payment', () => {
    expect(orders.length).toBe(69_659)
    expect(payments.length).toBe(69_579)
    const times = records.map(record => record.timestamp)
    expect(times.every((time, i) => i === 0 || times[i - 1] <= time)).toBe(true)
    const createdAt = new Map(orders.map(order => [order.orderId, order.createdAt]))
    expect(payments.every(one => createdAt.get(one.orderId)! < one.authorizedAt)).toBe(true)
  })

  test('have an id each', () => {
    const ids = records.map(({ headers }) => String(headers.find(([name]) => name === 'ce_id')![1]))
    expect(new Set(ids).size).toBe(139_238)
    expect(ids[0]).toMatch(/^cdnow-\d{5}-order$/)
  })

  test('give the sums of the truth, by month, customer, hour and minute', () => {
    const add = <K>(sums: Map<K, number>, key: K, value: number) =>
      sums.set(key, (sums.get(key) ?? 0) + value)
    const months = new Map<string, number>()
    const minutes = new Map<number, number>()
    for (const { authorizedAt, amountMinor } of payments) {
      add(months, new Date(authorizedAt).toISOString().slice(0, 7), amountMinor)
      add(minutes, Math.floor(authorizedAt / 60_000) * 60_000, amountMinor)
    }
    const spend = new Map<string, number>()
    const hours = new Map<number, Set<string>>()
    for (const { customerId, createdAt, totalMinor } of orders) {
      add(spend, customerId, totalMinor)
      const hour = Math.floor(createdAt / 3_600_000) * 3_600_000
      hours.set(hour, (hours.get(hour) ?? new Set()).add(customerId))
    }
    expect(months).toEqual(truth.revenueByMonth)
    expect([...minutes].sort()).toEqual(
      Array.from(truth.revenueByMinute, ([minute, one]) => [minute, one.revenueMinor]).sort(),
    )
    expect([...spend].sort()).toEqual(
      truth.customers.map(customer => [customer.customerId, customer.spendMinor]).sort(),
    )
    expect(new Map(Array.from(hours, ([hour, ids]) => [hour, ids.size]))).toEqual(
      truth.customersByHour,
    )
  })
})
