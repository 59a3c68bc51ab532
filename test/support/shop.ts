/**
 * A small shop for crash, replay and law tests: orders and payments, a left join, windows behind
 * a re-key, and an oracle that computes the same from the raw records with plain loops, sharing
 * nothing with the engine but the partition of a key.
 */
import { Type } from 'typebox'
import {
  fieldsKey,
  json,
  type Stream,
  Topology,
  text,
  textKey,
  tumbling,
} from '../../streams/index.ts'
import type { Outcome } from '../oracle/proof.ts'
import { Random } from './random.ts'

export interface Order {
  region: string
  total: number
}

export interface Payment {
  amount: number
}

export interface ShopRecord {
  topic: 'orders' | 'payments'
  partition: number
  key: string
  timeMs: number
  value: Order & Payment
}

export const PARTITIONS = 4
const REACH_MS = 60_000
const JOIN_GRACE_MS = 10_000
const GRACE_MS = 30_000
const WINDOW_MS = 10_000
/** No real record is as late as this: the last ones close everything before. */
const END_MS = 10_000_000
const REGIONS = ['north', 'south', 'east', 'west', 'île', 'centre']

/**
 * Records in append order, by partition in the order they arrive. The partitions differ in pace
 * and disorder: 0 is far ahead, 1 sparse, 2 very out of order with late records.
 */
export function shopRecords(seed: number, orders: number): ShopRecord[] {
  const random = new Random(seed)
  const records: (ShopRecord & { arrivalMs: number })[] = []
  const delay = [0, 2_000, 25_000, 4_000]
  for (let i = 0; i < orders; i++) {
    const partition = random.below(10) === 0 ? 1 : [0, 2, 3][random.below(3)]!
    const timeMs = 1_000 + i * 150 + random.below(100)
    const key = `order-${i}`
    const total = 1 + random.below(1000)
    const value = { region: random.pick(REGIONS), total, amount: total }
    const late = partition === 2 && random.below(25) === 0 ? 120_000 : 0
    const wait = () => random.below(delay[partition]! + 1)
    records.push({
      topic: 'orders',
      partition,
      key,
      timeMs,
      value,
      arrivalMs: timeMs + wait() + late,
    })
    if (random.below(10) === 0) continue
    const before = random.below(12) === 0 ? -random.below(50_000) : 0
    const paidMs = Math.max(0, timeMs + (before || Math.floor(random.exponential(20_000))))
    const payment = { topic: 'payments' as const, partition, key, timeMs: paidMs, value }
    records.push({ ...payment, arrivalMs: paidMs + wait() })
  }
  records.sort((a, b) => a.arrivalMs - b.arrivalMs)
  const end: ShopRecord[] = []
  for (const topic of ['orders', 'payments'] as const) {
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const value = { region: 'end', total: 0, amount: 0 }
      end.push({ topic, partition, key: `end-${topic}-${partition}`, timeMs: END_MS, value })
    }
  }
  return [...records.map(({ arrivalMs: _, ...record }) => record), ...end]
}

export const shopParts = ['volume', 'revenue', 'unpaid', 'finals'] as const
/** What is made of orders and payments: views, and topics. */
export type ShopPart = (typeof shopParts)[number]

/** With a prefix it is another shop on the same log: application and topics have other names. */
export function shopTopology(prefix = '', parts: readonly ShopPart[] = shopParts): Topology {
  const topology = new Topology(`${prefix}shop`)
  const orders = topology.stream(`${prefix}orders`, { key: textKey(), value: json<Order>() })
  const payments = topology.stream(`${prefix}payments`, { key: textKey(), value: json<Payment>() })
  const has = (part: ShopPart) => parts.includes(part)
  if (has('volume')) addVolume(orders)
  if (has('revenue') || has('unpaid')) {
    const joined = orders.leftJoin(
      payments,
      (order, payment) => ({ region: order.region, amount: payment?.amount ?? -1 }),
      { name: 'paid', beforeMs: REACH_MS, afterMs: REACH_MS, graceMs: JOIN_GRACE_MS },
    )
    if (has('revenue')) addRevenue(joined)
    if (has('unpaid')) addUnpaid(joined, `${prefix}unpaid`)
  }
  if (has('finals')) addFinals(orders, `${prefix}finals`)
  return topology
}

type Sales = Stream<string, { region: string; amount: number }>

const byRegion = fieldsKey('region')
const totals = { count: Type.Integer(), amount: Type.Integer() }

const sum = {
  initial: () => ({ count: 0, amount: 0 }),
  add: (total: Totals, { amount }: { amount: number }) => ({
    count: total.count + 1,
    amount: total.amount + amount,
  }),
}

function addVolume(orders: Stream<string, Order>): void {
  orders
    .mapValues(order => ({ region: order.region, amount: order.total }))
    .groupBy(order => ({ region: order.region }), { name: 'orders-by-region', key: byRegion })
    .windowedBy(tumbling(WINDOW_MS, { graceMs: GRACE_MS }))
    .aggregate({ name: 'volume', retentionMs: 1e12, ...sum })
    .view({ name: 'volume', description: 'Orders by region', value: totals })
}

function addRevenue(joined: Sales): void {
  joined
    .filter(({ amount }) => amount >= 0)
    .groupBy(({ region }) => ({ region }), { name: 'paid-by-region', key: byRegion })
    .windowedBy(tumbling(WINDOW_MS, { graceMs: GRACE_MS + REACH_MS + JOIN_GRACE_MS }))
    .aggregate({ name: 'revenue', retentionMs: 1e12, ...sum })
    .view({ name: 'revenue', description: 'Paid orders by region', value: totals })
}

function addUnpaid(joined: Sales, topic: string): void {
  joined
    .filter(({ amount }) => amount < 0)
    .mapValues(({ region }) => region)
    .to(topic, { key: textKey(), value: text() })
}

function addFinals(orders: Stream<string, Order>, topic: string): void {
  orders
    .groupBy(order => ({ region: order.region }), { name: 'orders-for-finals', key: byRegion })
    .windowedBy(tumbling(WINDOW_MS, { graceMs: GRACE_MS }))
    .count({ name: 'finals', emit: 'close' })
    .toStream()
    .map((count, { key, windowStart }) => [`${key.region}@${windowStart}`, `${count}`])
    .to(topic, { key: textKey(), value: text() })
}

interface Totals {
  count: number
  amount: number
}

/** What must come out. Lines are sorted; the last window, of the end records, is left out. */
export interface ShopResults {
  volume: string[]
  revenue: string[]
  finals: string[]
  unpaid: string[]
  late: number
}

interface Stamped extends ShopRecord {
  streamMs: number
}

function stamp(records: readonly ShopRecord[]): Stamped[] {
  const stream = new Map<string, number>()
  return records.map(record => {
    const id = `${record.topic}/${record.partition}`
    const streamMs = Math.max(stream.get(id) ?? 0, record.timeMs)
    stream.set(id, streamMs)
    return { ...record, streamMs }
  })
}

class Windows {
  readonly totals = new Map<string, Totals>()
  late = 0

  add(sale: {
    region: string
    amount: number
    timeMs: number
    streamMs: number
    grace: number
  }): void {
    const start = sale.timeMs - (sale.timeMs % WINDOW_MS)
    if (start + WINDOW_MS + sale.grace <= sale.streamMs) {
      this.late++
      return
    }
    const id = `${sale.region}@${start}`
    const { count, amount } = this.totals.get(id) ?? { count: 0, amount: 0 }
    this.totals.set(id, { count: count + 1, amount: amount + sale.amount })
  }

  lines(render: (totals: Totals) => string): string[] {
    const lines = [...this.totals].filter(([id]) => !id.startsWith('end@'))
    return lines.map(([id, totals]) => `${id}=${render(totals)}`).sort()
  }
}

export function shopOracle(records: readonly ShopRecord[]): ShopResults {
  const stamped = stamp(records)
  const volume = new Windows()
  const revenue = new Windows()
  const unpaid: string[] = []
  const payments = new Map<string, Stamped[]>()
  let late = 0
  const kept = (row: Stamped) => row.timeMs + REACH_MS + JOIN_GRACE_MS
  for (const record of stamped) {
    if (kept(record) < record.streamMs) late++
    else if (record.topic === 'payments') {
      payments.set(record.key, [...(payments.get(record.key) ?? []), record])
    }
  }
  for (const order of stamped.filter(({ topic }) => topic === 'orders')) {
    const { region, total } = order.value
    const { timeMs, streamMs } = order
    volume.add({ region, amount: total, timeMs, streamMs, grace: GRACE_MS })
    if (kept(order) < streamMs) continue
    let matched = false
    for (const payment of payments.get(order.key) ?? []) {
      if (Math.abs(payment.timeMs - timeMs) > REACH_MS) continue
      const latest = Math.max(streamMs, payment.streamMs)
      if (Math.min(kept(order), kept(payment)) < latest) continue
      matched = true
      const grace = GRACE_MS + REACH_MS + JOIN_GRACE_MS
      const time = Math.max(timeMs, payment.timeMs)
      revenue.add({ region, amount: payment.value.amount, timeMs: time, streamMs: latest, grace })
    }
    if (!matched && region !== 'end') unpaid.push(`${order.key}=${region}`)
  }
  return {
    volume: volume.lines(({ count, amount }) => `${count},${amount}`),
    revenue: revenue.lines(({ count, amount }) => `${count},${amount}`),
    finals: volume.lines(({ count }) => `${count}`),
    unpaid: unpaid.sort(),
    late: late + volume.late * 2 + revenue.late,
  }
}

const TEXTS = { key: textKey(), value: text() }

/** What a shop has come to; of each topic all that was written since the last call. */
export async function shopResults(outcome: Outcome): Promise<ShopResults> {
  const written = async (topic: string) =>
    (await outcome.output(topic, TEXTS))
      .map(({ key, value }) => `${key}=${value}`)
      .filter(line => !line.startsWith('end'))
      .sort()
  return {
    volume: lines(await outcome.rows('volume')),
    revenue: lines(await outcome.rows('revenue')),
    finals: await written('finals'),
    unpaid: await written('unpaid'),
    late: (await outcome.output('shop-dead-letters', TEXTS)).length,
  }
}

/**
 * Parts of the shop in a random order in which they may be deployed: unpaid orders, a topic of the
 * join, come with it.
 */
export function shopDeployments(random: Random): ShopPart[][] {
  const order = random.shuffle([...shopParts])
  const unpaid = order.indexOf('unpaid')
  const revenue = order.indexOf('revenue')
  if (revenue < unpaid) {
    order[unpaid] = 'revenue'
    order[revenue] = 'unpaid'
  }
  const stages: ShopPart[][] = []
  for (let count = 1 + random.below(2); ; count += 1 + random.below(2)) {
    stages.push(order.slice(0, count))
    if (count >= order.length) return stages
  }
}

/** View rows in the oracle's form. */
export function lines(rows: readonly Readonly<Record<string, unknown>>[]): string[] {
  return rows
    .filter(({ region }) => region !== 'end')
    .map(row => `${row.region}@${row.windowStart}=${row.count},${row.amount}`)
    .sort()
}
