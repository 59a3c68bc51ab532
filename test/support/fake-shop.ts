/** Rows of a small shop over fake views, which move: for tests and pictures of the dashboard. */
import Type from 'typebox'
import type { ViewChange, ViewDeclaration, ViewRow } from '../../streams/views.ts'
import { FakeViews } from './fake-views.ts'

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const graceMs = 10 * minuteMs
const integer = Type.Integer()
const text = Type.String()

function declare(
  name: string,
  kind: ViewDeclaration['kind'],
  key: readonly string[],
  value: Parameters<typeof Type.Object>[0],
): ViewDeclaration {
  const fields = key.map(field => {
    return { name: field, type: field === 'rank' ? ('integer' as const) : ('string' as const) }
  })
  return { name, kind, key: fields, value: Type.Object(value), units: {}, description: name }
}

export const shopViews: readonly ViewDeclaration[] = [
  declare('order-volume', 'window', ['region', 'currency'], {
    orders: integer,
    items: integer,
    grossMinor: integer,
  }),
  declare('revenue', 'window', ['region', 'currency'], {
    paidOrders: integer,
    revenueMinor: integer,
  }),
  declare('payment-outcomes', 'window', ['method'], {
    authorized: integer,
    declined: integer,
    refunded: integer,
    authorizationRate: Type.Number(),
  }),
  declare('top-products', 'window', ['currency', 'rank'], {
    sku: text,
    quantity: integer,
    grossMinor: integer,
  }),
  declare('active-customers', 'window', [], { customers: integer }),
  declare('order-funnel', 'window', [], {
    created: integer,
    paid: integer,
    reserved: integer,
    fulfilled: integer,
    cancelled: integer,
  }),
  declare('stage-latency', 'window', ['stage'], {
    count: integer,
    p50: Type.Number(),
    p95: Type.Number(),
    p99: Type.Number(),
  }),
  declare('unpaid-orders', 'table', ['orderId'], {
    customerId: text,
    totalMinor: integer,
    currency: text,
    createdAt: integer,
  }),
  declare('alerts', 'window', ['rule', 'key'], {
    severity: text,
    observed: Type.Number(),
    expected: Type.Number(),
    message: text,
  }),
]

const regions = [
  ['us-east', 'USD', 28, 5400],
  ['eu-west', 'EUR', 26, 4900],
  ['uk', 'GBP', 13, 4100],
  ['japan', 'JPY', 13, 7800],
  ['brazil', 'BRL', 9, 21_000],
  ['india', 'INR', 11, 330_000],
] as const
const methods = [
  ['card', 0.52, 0.94],
  ['wallet', 0.27, 0.97],
  ['bank-transfer', 0.13, 0.9],
  ['pay-later', 0.08, 0.76],
] as const
const categories = ['electronics', 'shoes', 'games', 'garden', 'kitchen', 'sports', 'books']

/** The window of a view that holds a time. */
interface Cell {
  readonly view: string
  readonly at: number
  readonly sizeMs: number
}

export class FakeShop {
  readonly views = new FakeViews(shopViews)
  private seed: number
  /** Rows under way, so that a step can add to them. */
  private readonly rows = new Map<string, Record<string, unknown>>()
  private changes = new Map<string, Map<string, ViewChange>>()
  private orders = 0

  constructor(seed = 7) {
    this.seed = seed
  }

  private random(): number {
    this.seed = (Math.imul(this.seed, 1_664_525) + 1_013_904_223) >>> 0
    return this.seed / 2 ** 32
  }

  /** Fills the time up to `nowMs`. */
  backfill(nowMs: number, spanMs = 80 * minuteMs): void {
    for (let at = nowMs - spanMs; at <= nowMs; at += minuteMs / 4) this.tick(at, 15)
    for (let hour = 2; hour < 24; hour++) {
      const start = Math.floor(nowMs / hourMs) * hourMs - hour * hourMs
      this.ship(start, 4000 + 300 * ((hour * 7) % 5))
      this.set(
        { view: 'active-customers', at: start, sizeMs: hourMs },
        {},
        { customers: 3000 + 300 * ((hour * 7) % 5) },
      )
    }
    this.flush(nowMs)
  }

  /** The events of the last `seconds`, as one epoch. */
  step(nowMs: number, seconds: number): void {
    this.tick(nowMs, seconds)
    this.flush(nowMs)
  }

  private tick(at: number, seconds: number): void {
    for (const [region, currency, share, price] of regions) {
      const wave = 1 + 0.25 * Math.sin(at / (17 * minuteMs) + share) + 0.4 * (this.random() - 0.5)
      const orders = Math.round(((share * wave * seconds) / 15) * (0.6 + 0.8 * this.random()))
      if (orders === 0) continue
      const gross = Math.round(orders * price * (0.8 + 0.4 * this.random()))
      this.add(
        { view: 'order-volume', at, sizeMs: minuteMs },
        { region, currency },
        {
          orders,
          items: Math.round(orders * 2.2),
          grossMinor: gross,
        },
      )
      this.add(
        { view: 'revenue', at, sizeMs: minuteMs },
        { region, currency },
        {
          paidOrders: Math.round(orders * 0.9),
          revenueMinor: Math.round(gross * 0.9),
        },
      )
      this.orders += orders
      this.ship(at, orders)
      this.pay(at, orders)
      this.sell(at, currency, price)
      this.add(
        { view: 'active-customers', at, sizeMs: hourMs },
        {},
        { customers: Math.round(orders * 0.55) },
      )
    }
    if (this.random() < 0.03) this.alert(at)
  }

  private pay(at: number, orders: number): void {
    for (const [method, share, rate] of methods) {
      const attempts = Math.round(orders * share + this.random() * 0.6)
      const declined = Math.round(attempts * (1 - rate) + (this.random() - 0.5))
      const row = this.add(
        { view: 'payment-outcomes', at, sizeMs: 5 * minuteMs },
        { method },
        {
          authorized: Math.max(0, attempts - Math.max(0, declined)),
          declined: Math.max(0, declined),
          refunded: this.random() < 0.04 ? 1 : 0,
        },
      )
      const [authorized, refusals] = [row.authorized as number, row.declined as number]
      row.authorizationRate = authorized + refusals === 0 ? 0 : authorized / (authorized + refusals)
    }
  }

  private ship(at: number, orders: number): void {
    const part = (share: number) => Math.round(orders * share)
    const [created, paid, reserved] = [orders, part(0.91), part(0.88)]
    const amounts = { created, paid, reserved, fulfilled: part(0.85), cancelled: part(0.06) }
    this.add({ view: 'order-funnel', at, sizeMs: hourMs }, {}, amounts)
    const stages = [
      ['created→paid', 31_000],
      ['paid→fulfilled', 5_400_000],
    ] as const
    for (const [stage, usual] of stages) {
      const p50 = usual * (0.9 + 0.2 * this.random())
      const cell = { view: 'stage-latency', at, sizeMs: hourMs }
      const row = this.set(cell, { stage }, { p50, p95: 3.4 * p50, p99: 7.1 * p50 })
      row.count = ((row.count as number | undefined) ?? 0) + paid
    }
  }

  private sell(at: number, currency: string, price: number): void {
    for (let rank = 1; rank <= 10; rank++) {
      const sku = `${categories[(rank * 5) % categories.length]}-${String(rank * 37).padStart(4, '0')}`
      const quantity = Math.max(1, Math.round((12 - rank) * (0.7 + 0.1 * this.random())))
      const key = { currency, rank }
      this.add(
        { view: 'top-products', at, sizeMs: hourMs },
        key,
        { quantity, grossMinor: (13 - rank) * price },
        { sku },
      )
    }
  }

  /** One alert of a kind that its time decides. */
  alert(at: number): void {
    const kind = Math.floor(this.random() * 3)
    const customer = `c-us-east-${String(Math.floor(this.random() * 9999)).padStart(6, '0')}`
    const [rule, key, severity, message] = [
      [
        'payment-attempts',
        customer,
        'warning',
        '5 payment attempts within 10 minutes, at most 3 are usual.',
      ],
      [
        'authorization-rate',
        'pay-later',
        'critical',
        '76.2% of 143 attempts were authorized in the last hour, at least 80% are expected.',
      ],
      [
        'revenue-deviation',
        'eu-west EUR',
        'info',
        'One minute brought 3.4 standard deviations more than the hour before.',
      ],
    ][kind] as [string, string, string, string]
    this.set(
      { view: 'alerts', at: at, sizeMs: minuteMs },
      { rule, key },
      { severity, observed: 5, expected: 3, message },
    )
  }

  unpaid(count: number, nowMs: number): void {
    for (let index = 0; index < count; index++) {
      const [, currency, , price] = regions[index % regions.length]!
      const row = {
        orderId: `o-${index}`,
        customerId: `c-${index}`,
        totalMinor: price * 2,
        currency,
        createdAt: nowMs - 25 * hourMs,
      }
      this.note('unpaid-orders', row.orderId, row)
    }
    this.flush(nowMs)
  }

  private add(
    cell: Cell,
    key: object,
    amounts: Record<string, number>,
    fixed: object = {},
  ): Record<string, unknown> {
    const row = this.set(cell, key, fixed)
    for (const [field, amount] of Object.entries(amounts)) {
      row[field] = ((row[field] as number | undefined) ?? 0) + amount
    }
    return row
  }

  private set({ view, at, sizeMs }: Cell, key: object, values: object) {
    const windowStart = Math.floor(at / sizeMs) * sizeMs
    const id = `${view} ${JSON.stringify(key)} ${windowStart}`
    const bounds = { windowStart, windowEnd: windowStart + sizeMs, final: false }
    const row = this.rows.get(id) ?? { ...key, ...bounds }
    this.rows.set(id, row)
    Object.assign(row, values)
    this.note(view, id, row)
    return row
  }

  private note(view: string, id: string, row: ViewRow): void {
    const mine = this.changes.get(view) ?? new Map<string, ViewChange>()
    this.changes.set(view, mine)
    mine.set(id, { op: 'upsert', row })
  }

  private flush(nowMs: number): void {
    const closedAt = nowMs - graceMs
    for (const [id, row] of this.rows) {
      if (row.final === true || (row.windowEnd as number) > closedAt) continue
      row.final = true
      this.note(id.slice(0, id.indexOf(' ')), id, row)
      this.rows.delete(id)
    }
    const changes: Record<string, ViewChange[]> = {}
    for (const [view, mine] of this.changes) {
      changes[view] = [...mine.values()].map(({ op, row }) => ({ op, row: { ...row } }))
    }
    this.changes = new Map()
    this.views.commit(changes)
    this.measure(nowMs)
  }

  private measure(nowMs: number): void {
    const labels = { topic: 'orders', partition: '0' }
    const late = { step: 'order-volume', partition: '0', reason: 'late' }
    const gauge = { kind: 'gauge', help: 'x' } as const
    const counter = { kind: 'counter', help: 'x' } as const
    this.views.metricSamples = [
      { ...gauge, name: 'stream_time_ms', labels, value: nowMs - 700 },
      { ...gauge, name: 'records_lag', labels, value: Math.round(this.random() * 40) },
      {
        ...counter,
        name: 'dropped_records_total',
        labels: late,
        value: Math.floor(this.orders / 900),
      },
      {
        ...counter,
        name: 'dropped_records_total',
        labels: { step: 'dead-letters', reason: 'poison' },
        value: 2,
      },
    ]
  }
}
