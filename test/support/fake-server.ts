/** A server over fake views, and declarations like those of the business. */
import Type from 'typebox'
import { createServer, type EventFlow, type Limits, type ServerOptions } from '../../api/index.ts'
import type { EventRecord } from '../../contracts/event-record.ts'
import { inputTopics } from '../../contracts/topics.ts'
import type { ViewDeclaration } from '../../streams/views.ts'
import { FakeViews } from './fake-views.ts'

const integer = Type.Integer()
const minor = 'minor currency units'

export const volumeView: ViewDeclaration = {
  name: 'order-volume',
  kind: 'window',
  description: 'Orders a minute.',
  key: [
    { name: 'region', type: 'string' },
    { name: 'currency', type: 'string' },
  ],
  value: Type.Object({ orders: integer, items: integer, grossMinor: integer }),
  units: { grossMinor: minor },
}

export const productsView: ViewDeclaration = {
  name: 'top-products',
  kind: 'window',
  description: 'Best sellers an hour.',
  key: [
    { name: 'currency', type: 'string' },
    { name: 'rank', type: 'integer' },
  ],
  value: Type.Object({ sku: Type.String(), quantity: integer, grossMinor: integer }),
  units: { grossMinor: minor },
}

export const profileView: ViewDeclaration = {
  name: 'customer-profile',
  kind: 'table',
  description: 'One row a customer.',
  key: [{ name: 'customerId', type: 'string' }],
  value: Type.Object({ orders: integer, spendMinor: Type.Record(Type.String(), integer) }),
  units: { spendMinor: minor },
}

export const testViews = [volumeView, productsView, profileView]

export function volumeRow(region: string, minute: number, orders: number, currency = 'EUR') {
  const windowStart = minute * 60_000
  const row = { region, currency, windowStart, windowEnd: windowStart + 60_000, final: false }
  return { ...row, orders, items: orders * 2, grossMinor: orders * 1000 }
}

export const testFlow: EventFlow = {
  applications: [
    {
      application: 'shop',
      reads: [{ topic: 'orders' }, { topic: 'payments', messages: ['PaymentAuthorized'] }],
      writes: [{ topic: 'totals' }],
      deadLetters: 'shop-dead-letters',
    },
  ],
  inputs: inputTopics,
  log: { protocol: 'embedded', host: 'localhost', description: 'In memory.' },
}

export interface FakeServerOptions extends Partial<Omit<ServerOptions, 'limits'>> {
  readonly fake?: FakeViews
  readonly limits?: Partial<Limits>
}

export async function fakeServer(options: FakeServerOptions = {}) {
  const { fake, ...rest } = options
  const views = fake ?? new FakeViews(testViews)
  const appended: EventRecord[][] = []
  let ids = 0
  const server = await createServer({
    views,
    append: async records => {
      appended.push([...records])
      return views.commit()
    },
    orders: {
      append: async () => views.commit(),
      position: async () => views.position(),
    },
    deadLetters: { of: new Map(), position: async () => '' },
    topology: () => ({ name: 'test', nodes: [] }),
    readiness: () => ({ ready: true }),
    flow: testFlow,
    clock: () => Date.now(),
    schedule: (run, delayMs) => {
      const timer = setTimeout(run, delayMs)
      return () => clearTimeout(timer)
    },
    ids: () => `id-${++ids}`,
    version: '0.0.0-test',
    ...rest,
  })
  return { server, views, appended }
}

/** A valid line of `POST /v1/events`. */
export function orderLine(orderId: string, createdAt: number, sku = 'mug'): string {
  const items = [{ sku, category: 'home', quantity: 2, unitPriceMinor: 500 }]
  const order = { orderId, customerId: 'c1', region: 'eu', currency: 'EUR', items }
  const value = { ...order, totalMinor: 1000, createdAt }
  const line = { topic: 'orders', type: 'OrderCreated', key: orderId, timestamp: createdAt, value }
  return JSON.stringify(line)
}
