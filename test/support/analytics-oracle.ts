/**
 * What the analytics views must show, computed from the events in their order of arrival. It
 * shares nothing with the engine but the partitioner: lateness by each partition's own stream
 * time, joins by looking at all pairs, windows and sessions by sorting.
 */
import type { BusinessEvent, EventOf } from '../../contracts/events.ts'
import { partitionOf } from '../../log/murmur2.ts'
import type { GeneratedEvent } from '../../processors/demo/order-story.ts'

const minute = 60_000
const hour = 60 * minute
const grace = 10 * minute
const reach = 24 * hour

export type Row = Record<string, unknown>

interface Arrived<T> {
  readonly event: T
  readonly time: number
  /** Stream time of its partition when it came. */
  readonly stream: number
  readonly partition: number
}

type Order = Arrived<EventOf<'OrderCreated'>>
type Tried = EventOf<'PaymentAuthorized'> | EventOf<'PaymentDeclined'>
type Payment = Arrived<Tried | EventOf<'PaymentRefunded'>>
type Fulfilled = Arrived<EventOf<'OrderFulfilled'>>

const orderTopics = ['orders', 'payments', 'inventory', 'fulfilment'] as const
const topics = [...orderTopics, 'stock'] as const
type Topic = (typeof topics)[number]

const funnelSteps: Readonly<Record<string, string>> = {
  OrderCreated: 'created',
  PaymentAuthorized: 'paid',
  InventoryReserved: 'reserved',
  OrderFulfilled: 'fulfilled',
  OrderCancelled: 'cancelled',
}

interface Attempt {
  readonly order: EventOf<'OrderCreated'>
  readonly payment: Tried
  readonly time: number
  readonly stream: number
}

interface Placed<T> {
  readonly start: number
  readonly items: T[]
}

function grouped<T>(items: readonly T[], keyOf: (item: T) => string): T[][] {
  return [...Map.groupBy(items, keyOf).values()]
}

const sum = <T>(items: readonly T[], of: (item: T) => number) =>
  items.reduce((total, item) => total + of(item), 0)

/** Rows with their fields in order, themselves in order: for comparing. */
function inOrder(rows: readonly Row[]): string[] {
  return rows.map(row => JSON.stringify(Object.fromEntries(Object.entries(row).sort()))).sort()
}

/** Each view and how the oracle computes its rows. */
export const analyticsViews: readonly (readonly [string, (oracle: AnalyticsOracle) => Row[]])[] = [
  ['order-volume', oracle => oracle.orderVolume()],
  ['revenue', oracle => oracle.revenue()],
  ['revenue-trend', oracle => oracle.revenueTrend()],
  ['payment-outcomes', oracle => oracle.paymentOutcomes()],
  ['unpaid-orders', oracle => oracle.unpaidOrders()],
  ['top-products', oracle => oracle.topProducts()],
  ['active-customers', oracle => oracle.activeCustomers()],
  ['customer-sessions', oracle => oracle.customerSessions()],
  ['customer-profile', oracle => oracle.customerProfile()],
  ['alerts', oracle => oracle.alerts()],
  ['order-funnel', oracle => oracle.orderFunnel()],
  ['stage-latency', oracle => oracle.stageLatency()],
  ['inventory-levels', oracle => oracle.inventoryLevels()],
]

/** Rows in a form to compare. The words of an alert are not judged. */
export function comparedRows(rows: readonly Row[]): string[] {
  return inOrder(rows.map(({ severity, message, ...row }) => row))
}

/** An event in the order of its arrival, which may be that of its partition alone. */
export type ArrivedEvent = Pick<GeneratedEvent, 'event' | 'topic' | 'key' | 'ceId' | 'eventTimeMs'>

export class AnalyticsOracle {
  readonly #orders: Order[] = []
  readonly #payments: Payment[] = []
  readonly #attempts: Attempt[] = []
  readonly #fulfilments: Fulfilled[] = []
  readonly #all: Arrived<BusinessEvent>[] = []
  /** How far each partition of a topic has come in the end. */
  readonly #streams: Readonly<Record<Topic, number[]>>
  /** A payment that waits for its order holds the windows of payments with orders open. */
  #attemptsMark: number
  duplicates = 0

  constructor(events: readonly ArrivedEvent[], partitions: number) {
    // A partition of which nothing came holds all that depends on it.
    const unheard = () => new Array<number>(partitions).fill(Number.NEGATIVE_INFINITY)
    const streams = Object.fromEntries(topics.map(topic => [topic, unheard()]))
    this.#streams = streams as Record<Topic, number[]>
    const seen = new Set<string>()
    for (const { event, topic, key, ceId, eventTimeMs: time } of events) {
      const bytes = Buffer.from(key)
      const partition = partitionOf(bytes, 0, bytes.length, partitions)
      const marks = this.#streams[topic as Topic]
      const stream = Math.max(marks[partition]!, time)
      marks[partition] = stream
      // Copies are far less than 7 days apart here.
      if (seen.has(ceId)) this.duplicates++
      else {
        const arrived = { event, time, stream, partition }
        this.#all.push(arrived)
        if (event.type === 'OrderCreated') this.#orders.push(arrived as Order)
        if (event.type === 'OrderFulfilled') this.#fulfilments.push(arrived as Fulfilled)
        if (topic === 'payments') this.#payments.push(arrived as Payment)
      }
      seen.add(ceId)
    }
    this.#attemptsMark = this.#markOf('orders', 'payments')
    this.#pair()
  }

  /** The watermark of a step behind an exchange that these topics feed. */
  #markOf(...fed: readonly Topic[]): number {
    return Math.min(...fed.flatMap(topic => this.#streams[topic]))
  }

  /** The watermark of the task that reads a partition of these topics. */
  #taskMark(partition: number, ...fed: readonly Topic[]): number {
    return Math.min(...fed.map(topic => this.#streams[topic][partition]!))
  }

  #pair(): void {
    const orders = new Map(this.#orders.map(order => [order.event.orderId, order]))
    for (const { event, time, stream, partition } of this.#payments) {
      const order = orders.get(event.orderId)
      if (event.type === 'PaymentRefunded') continue
      if (order === undefined) {
        // One that is late itself, or has waited in vain, holds nothing back.
        const keptUntil = time + reach + grace
        if (keptUntil >= Math.max(stream, this.#taskMark(partition, 'orders', 'payments'))) {
          this.#attemptsMark = Math.min(this.#attemptsMark, time)
        }
        continue
      }
      const both = Math.max(stream, order.stream)
      if (Math.abs(order.time - time) > reach) continue
      if (Math.min(order.time, time) + reach + grace < both) continue
      this.#attempts.push({ order: order.event, payment: event, time, stream })
    }
  }

  /** Items that are on time for a window, by window and key. */
  #windows<T extends { time: number; stream: number }>(
    items: readonly T[],
    windows: { readonly size: number; readonly advance?: number },
    keyOf: (item: T) => string,
  ): Placed<T>[] {
    const { size, advance = size } = windows
    const placed: { start: number; item: T }[] = []
    for (const item of items) {
      for (let start = item.time - (item.time % advance); ; start -= advance) {
        if (start + size <= item.time) break
        if (start >= 0 && start + size + grace > item.stream) placed.push({ start, item })
      }
    }
    const groups = grouped(placed, ({ start, item }) => `${start} ${keyOf(item)}`)
    return groups.map(list => ({ start: list[0]!.start, items: list.map(({ item }) => item) }))
  }

  #bounds(start: number, size: number, mark: number): Row {
    const windowEnd = start + size
    return { windowStart: start, windowEnd, final: windowEnd + grace <= mark }
  }

  orderVolume(): Row[] {
    const keyOf = ({ event }: Order) => `${event.region} ${event.currency}`
    return this.#windows(this.#orders, { size: minute }, keyOf).map(({ start, items }) => ({
      region: items[0]!.event.region,
      currency: items[0]!.event.currency,
      ...this.#bounds(start, minute, this.#markOf('orders')),
      orders: items.length,
      items: sum(items, ({ event }) => sum(event.items, item => item.quantity)),
      grossMinor: sum(items, ({ event }) => event.totalMinor),
    }))
  }

  get #paid(): Attempt[] {
    return this.#attempts.filter(({ payment }) => payment.type === 'PaymentAuthorized')
  }

  revenue(size = minute, advance = minute): Row[] {
    const keyOf = ({ order, payment }: Attempt) => `${order.region} ${payment.currency}`
    return this.#windows(this.#paid, { size, advance }, keyOf).map(({ start, items }) => ({
      region: items[0]!.order.region,
      currency: items[0]!.payment.currency,
      ...this.#bounds(start, size, this.#attemptsMark),
      paidOrders: items.length,
      revenueMinor: sum(items, ({ payment }) => payment.amountMinor),
    }))
  }

  revenueTrend(): Row[] {
    return this.revenue(hour, 5 * minute)
  }

  #outcomes(size: number, advance: number) {
    const byMethod = ({ event }: Payment) => event.method
    return this.#windows(this.#payments, { size, advance }, byMethod).map(({ start, items }) => {
      const count = (type: string) => items.filter(({ event }) => event.type === type).length
      const authorized = count('PaymentAuthorized')
      const declined = count('PaymentDeclined')
      const tried = authorized + declined
      const authorizationRate = tried === 0 ? 0 : authorized / tried
      const refunded = items.length - tried
      const { method } = items[0]!.event
      return { method, start, authorized, declined, refunded, authorizationRate }
    })
  }

  paymentOutcomes(): Row[] {
    return this.#outcomes(5 * minute, 5 * minute).map(({ start, ...row }) => ({
      ...row,
      ...this.#bounds(start, 5 * minute, this.#markOf('payments')),
    }))
  }

  topProducts(): Row[] {
    const sold = this.#orders.flatMap(({ event, time, stream }) =>
      event.items.map(item => ({ ...item, currency: event.currency, time, stream })),
    )
    return this.#windows(sold, { size: hour }, item => item.currency).flatMap(
      ({ start, items }) => {
        const products = grouped(items, item => item.sku).map(list => ({
          sku: list[0]!.sku,
          quantity: sum(list, item => item.quantity),
          grossMinor: sum(list, item => item.quantity * item.unitPriceMinor),
        }))
        products.sort((a, b) => b.grossMinor - a.grossMinor || (a.sku < b.sku ? -1 : 1))
        return products.slice(0, 10).map((product, i) => ({
          currency: items[0]!.currency,
          rank: i + 1,
          ...this.#bounds(start, hour, this.#markOf('orders')),
          ...product,
        }))
      },
    )
  }

  /** Exact where no window has more than 256 customers. */
  activeCustomers(): Row[] {
    return this.#windows(this.#orders, { size: hour }, () => '').map(({ start, items }) => ({
      ...this.#bounds(start, hour, this.#markOf('orders')),
      customers: new Set(items.map(({ event }) => event.customerId)).size,
    }))
  }

  customerSessions(): Row[] {
    const onTime = this.#orders.filter(({ time, stream }) => time + grace >= stream)
    const rows: Row[] = []
    for (const own of grouped(onTime, o => `${o.event.customerId} ${o.event.currency}`)) {
      own.sort((a, b) => a.time - b.time)
      for (let from = 0; from < own.length; ) {
        let to = from + 1
        while (to < own.length && own[to]!.time - own[to - 1]!.time <= 30 * minute) to++
        const visit = own.slice(from, to)
        const windowEnd = visit.at(-1)!.time
        rows.push({
          customerId: visit[0]!.event.customerId,
          currency: visit[0]!.event.currency,
          windowStart: visit[0]!.time,
          windowEnd,
          final: windowEnd + 30 * minute + grace < this.#markOf('orders'),
          orders: visit.length,
          spendMinor: sum(visit, ({ event }) => event.totalMinor),
        })
        from = to
      }
    }
    return rows
  }

  customerProfile(): Row[] {
    return grouped(this.#orders, ({ event }) => event.customerId).map(own => {
      const items = grouped(
        own.flatMap(({ event }) => event.items),
        item => item.category,
      ).map(list => ({ name: list[0]!.category, count: sum(list, item => item.quantity) }))
      items.sort((a, b) => b.count - a.count || (a.name < b.name ? -1 : 1))
      const currencies = grouped(own, ({ event }) => event.currency).sort()
      const spent = currencies.map(list => [
        list[0]!.event.currency,
        sum(list, ({ event }) => event.totalMinor),
      ])
      return {
        customerId: own[0]!.event.customerId,
        orders: own.length,
        spendMinor: Object.fromEntries(spent),
        firstOrderAt: Math.min(...own.map(({ time }) => time)),
        lastOrderAt: Math.max(...own.map(({ time }) => time)),
        favouriteCategory: items[0]?.name ?? null,
      }
    })
  }

  unpaidOrders(): Row[] {
    const paid = new Set(this.#paid.map(({ order }) => order.orderId))
    return this.#orders
      .filter(({ event, time, partition }) => {
        const mark = this.#taskMark(partition, 'orders', 'payments')
        return !paid.has(event.orderId) && time + reach + grace < mark
      })
      .map(({ event }) => ({
        orderId: event.orderId,
        customerId: event.customerId,
        totalMinor: event.totalMinor,
        currency: event.currency,
        createdAt: event.createdAt,
      }))
  }

  orderFunnel(): Row[] {
    const reached = this.#all.filter(({ event }) => Object.hasOwn(funnelSteps, event.type))
    const mark = this.#markOf(...orderTopics)
    return this.#windows(reached, { size: hour }, () => '').map(({ start, items }) => {
      const row: Record<string, unknown> = this.#bounds(start, hour, mark)
      for (const [type, step] of Object.entries(funnelSteps)) {
        row[step] = items.filter(({ event }) => event.type === type).length
      }
      return row
    })
  }

  stageLatency(): Row[] {
    const passed = this.#paid.map(({ order, time, stream }) => {
      return { stage: 'created→paid', took: time - order.createdAt, time, stream }
    })
    const authorized = this.#payments.filter(({ event }) => event.type === 'PaymentAuthorized')
    const payments = Map.groupBy(authorized, ({ event }) => event.orderId)
    let held = this.#markOf('payments', 'fulfilment')
    for (const { event, time, stream, partition } of this.#fulfilments) {
      const kept = time + hour + grace
      const partners = (payments.get(event.orderId) ?? []).filter(payment => {
        const took = time - payment.time
        const both = Math.max(stream, payment.stream)
        const isInReach = took >= -hour && took <= 7 * 24 * hour
        return isInReach && Math.min(kept, payment.time + 7 * 24 * hour + grace) >= both
      })
      for (const payment of partners) {
        passed.push({ stage: 'paid→fulfilled', took: time - payment.time, time, stream })
      }
      // One that waits for its payment holds the windows open.
      const mark = this.#taskMark(partition, 'payments', 'fulfilment')
      if (partners.length === 0 && kept >= Math.max(stream, mark)) held = Math.min(held, time)
    }
    const closed = Math.min(this.#attemptsMark, held)
    return this.#windows(passed, { size: hour }, ({ stage }) => stage).map(({ start, items }) => {
      const took = items.map(item => item.took).sort((a, b) => a - b)
      return {
        stage: items[0]!.stage,
        ...this.#bounds(start, hour, closed),
        count: took.length,
        p50: sketched(took, 0.5),
        p95: sketched(took, 0.95),
        p99: sketched(took, 0.99),
      }
    })
  }

  /** Received less what orders hold; an order that was fulfilled holds and has shipped it. */
  inventoryLevels(): Row[] {
    const received = new Map<string, number>()
    const held = new Map<string, number>()
    const shipped = new Map<string, number>()
    const fulfilled = new Set(this.#fulfilments.map(({ event }) => event.orderId))
    const add = (sums: Map<string, number>, sku: string, quantity: number) =>
      sums.set(sku, (sums.get(sku) ?? 0) + quantity)
    for (const { event } of this.#all) {
      if (event.type === 'StockReceived') add(received, event.sku, event.quantity)
      if (event.type !== 'InventoryReserved' && event.type !== 'InventoryReleased') continue
      for (const { sku, quantity } of event.items) {
        const taken = event.type === 'InventoryReserved' ? quantity : -quantity
        add(held, sku, taken)
        if (fulfilled.has(event.orderId)) add(shipped, sku, taken)
      }
    }
    return [...new Set([...received.keys(), ...held.keys()])].map(sku => {
      const taken = held.get(sku) ?? 0
      const onHand = (received.get(sku) ?? 0) - taken
      return { sku, onHand, reserved: taken - (shipped.get(sku) ?? 0) }
    })
  }

  /** Rule, key, window, observed and expected: what an alert is about. */
  alerts(): Row[] {
    return [...this.#attemptAlerts(), ...this.#rateAlerts(), ...this.#revenueAlerts()]
  }

  #attemptAlerts(): Row[] {
    const rows: Row[] = []
    const onTime = this.#attempts.filter(({ time, stream }) => time + grace > stream)
    for (const own of grouped(onTime, ({ order }) => order.customerId)) {
      const times = own.map(({ time }) => time).sort((a, b) => a - b)
      let over = false
      let last = Number.NEGATIVE_INFINITY
      for (const time of new Set(times)) {
        const windowStart = time - 10 * minute
        const observed = times.filter(one => one >= windowStart && one <= time).length
        const isFirst = !(over && last >= windowStart)
        if (observed > 3 && isFirst && time + grace <= this.#attemptsMark) {
          const key = own[0]!.order.customerId
          const window = { windowStart, windowEnd: time, final: true }
          rows.push({ rule: 'payment-attempts', key, ...window, observed, expected: 3 })
        }
        over = observed > 3
        last = time
      }
    }
    return rows
  }

  #rateAlerts(): Row[] {
    return this.#outcomes(hour, 5 * minute)
      .filter(({ start }) => start + hour + grace <= this.#markOf('payments'))
      .filter(({ authorized, declined }) => authorized + declined >= 20)
      .filter(({ authorizationRate }) => authorizationRate < 0.8)
      .map(({ method, start, authorizationRate: observed }) => ({
        rule: 'authorization-rate',
        key: method,
        windowStart: start,
        windowEnd: start + hour,
        final: true,
        observed,
        expected: 0.8,
      }))
  }

  #revenueAlerts(): Row[] {
    const rows: Row[] = []
    const closed = this.revenue().filter(({ final }) => final)
    for (const own of grouped(closed, row => `${row.region}/${row.currency}`)) {
      const minutes = new Map(own.map(row => [row.windowStart as number, row.revenueMinor]))
      const first = Math.min(...minutes.keys())
      for (const [start, revenue] of minutes) {
        if (start - 60 * minute < first) continue
        const before: number[] = []
        for (let i = 1; i <= 60; i++) before.push((minutes.get(start - i * minute) ?? 0) as number)
        const mean = sum(before, one => one) / 60
        const sigma = Math.sqrt(sum(before, one => (one - mean) ** 2) / 60)
        if (Math.abs((revenue as number) - mean) <= 3 * sigma) continue
        const key = `${own[0]!.region}/${own[0]!.currency}`
        const window = { windowStart: start, windowEnd: start + minute, final: true }
        const expected = Math.round(mean)
        rows.push({ rule: 'revenue-deviation', key, ...window, observed: revenue, expected })
      }
    }
    return rows
  }
}

/** The quantile of ordered values above 0: the middle of its bucket of ±1 %, which is its value. */
function sketched(values: readonly number[], share: number): number {
  const exact = values[Math.floor(share * (values.length - 1))]!
  const gamma = 1.01 / 0.99
  const bucket = Math.ceil(Math.log(exact) / Math.log(gamma))
  const middle = (2 * gamma ** bucket) / (1 + gamma)
  return Math.min(Math.max(middle, values[0]!), values.at(-1)!)
}
