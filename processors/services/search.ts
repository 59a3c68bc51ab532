/**
 * The search service: finds orders by order id, customer, sku, tracking, status and region.
 *
 * in     orders, payments, inventory, fulfilment by orderId
 * time   none: what is found is what the events so far say, in whatever order they came
 * state  one row an order, one a term and order; kept for `keepMs`, changelogged; the views
 *        `order-search` and `order-search-terms`, which `GET /v1/search/orders` reads
 * out    nothing
 * late   nothing is late; more items than an order may have are put aside by `overflow`
 */
import { Type } from 'typebox'
import type { BusinessEvent } from '../../contracts/events.ts'
import { termsOf } from '../../contracts/search-terms.ts'
import { fieldsKey, json, type ProcessorContext, Topology } from '../../streams/index.ts'
import { orderKey } from '../analytics/event-streams.ts'
import { checkCreated, itemsBytes, itemsBytesMax, tooMany } from '../orders/order-items.ts'
import { readEvents } from './messages.ts'
import type { ServiceSettings } from './settings.ts'

/** A later one stands, whichever came first. */
const statuses = ['pending', 'declined', 'paid', 'reserved', 'cancelled', 'fulfilled'] as const

interface Found {
  readonly customerId: string | null
  readonly region: string | null
  readonly status: number
  readonly tracking: string | null
  readonly skus: readonly string[]
  readonly createdAt: number | null
  /** All of its terms but its status. */
  readonly terms: readonly string[]
  /** Of all items that were added, those put aside too. */
  readonly addedBytes?: number
}

const stores = {
  orders: { key: orderKey, codec: json<Found>() },
  terms: { key: fieldsKey('term', 'orderId'), codec: json<Record<string, never>>() },
} as const
type Context = ProcessorContext<string, typeof stores, string, never>

export function searchTopology({ keepMs }: ServiceSettings): Topology {
  const topology = new Topology('search')
  readEvents(
    topology,
    'OrderCreated',
    'OrderItemsAdded',
    'OrderCancelled',
    'PaymentAuthorized',
    'PaymentDeclined',
    'InventoryReserved',
    'OrderFulfilled',
    'OrderShipped',
  ).process<typeof stores, string, never>({
    name: 'found',
    key: orderKey,
    stores,
    prefetch: ({ key, value }, want) => {
      want('orders', key)
      for (const term of [...termsOf(key), ...addedTerms(value), ...statuses]) {
        want('terms', { term, orderId: key })
      }
    },
    prefetchTimer: ({ key, name }, want) => {
      want('orders', key)
      if (name.startsWith(forgetPrefix)) {
        want('terms', { term: name.slice(forgetPrefix.length), orderId: key })
      }
    },
    views: [
      { store: 'orders', ...ordersView },
      { store: 'terms', ...termsView },
    ],
    create: context => ({
      process: ({ key, value, timeMs }) => noted(context, { key, event: value, timeMs, keepMs }),
      onTimer: ({ key, name, atMs }) => {
        if (name === 'forget') forget(context, key, atMs)
        else context.store('terms').delete({ term: name.slice(forgetPrefix.length), orderId: key })
      },
    }),
  })
  return topology
}

const nullable = (type: Type.TString | Type.TInteger) => Type.Union([type, Type.Null()])
const ordersView = {
  name: 'order-search',
  description: 'What search says of each order it finds',
  value: {
    customerId: nullable(Type.String()),
    region: nullable(Type.String()),
    status: Type.String(),
    tracking: nullable(Type.String()),
    skus: Type.Array(Type.String()),
    createdAt: nullable(Type.Integer({ description: 'Epoch ms' })),
  },
  units: { createdAt: 'ms' },
  row: ({ terms: _, addedBytes: __, status, ...found }: Found) => ({
    ...found,
    status: statuses[status],
  }),
}
const termsView = {
  name: 'order-search-terms',
  description: 'The orders of each term; ask /v1/search/orders',
  value: {},
}

interface Noted {
  readonly key: string
  readonly event: BusinessEvent
  readonly timeMs: number
  readonly keepMs: number
}

function noted(context: Context, { key, event, timeMs, keepMs }: Noted): void {
  const orders = context.store('orders')
  const terms = context.store('terms')
  const before = orders.get(key)
  const found = withEvent(before ?? nothingFound, event)
  if (before === undefined) {
    context.schedule({ clock: 'event', atMs: timeMs + keepMs, key, name: 'forget' })
    for (const term of termsOf(key)) terms.put({ term, orderId: key }, {})
  }
  if (before?.status !== found.status) {
    if (before !== undefined) terms.delete({ term: statuses[before.status]!, orderId: key })
    terms.put({ term: statuses[found.status]!, orderId: key }, {})
  }
  const { addedBytes = 0 } = found
  const isTooMany = event.type === 'OrderItemsAdded' && addedBytes > itemsBytesMax
  if (isTooMany) context.drop('overflow', tooMany(key, addedBytes))
  const added = isTooMany ? [] : addedTerms(event)
  for (const term of added) terms.put({ term, orderId: key }, {})
  const own = before === undefined ? termsOf(key) : before.terms
  orders.put(key, { ...found, terms: [...new Set([...own, ...added])] })
}

const nothingFound: Found = {
  customerId: null,
  region: null,
  status: 0,
  tracking: null,
  skus: [],
  createdAt: null,
  terms: [],
}

function withEvent(found: Found, event: BusinessEvent): Found {
  const at = (status: (typeof statuses)[number]): Found => {
    return { ...found, status: Math.max(found.status, statuses.indexOf(status)) }
  }
  switch (event.type) {
    case 'OrderCreated': {
      const { orderId, customerId, region, createdAt } = event
      checkCreated(orderId, event.items)
      return { ...found, customerId, region, createdAt, skus: withSkus(found, event.items) }
    }
    case 'OrderItemsAdded': {
      const addedBytes = (found.addedBytes ?? 0) + itemsBytes(event.items)
      if (addedBytes > itemsBytesMax) return { ...found, addedBytes }
      return { ...found, skus: withSkus(found, event.items), addedBytes }
    }
    case 'OrderShipped':
      return { ...found, tracking: event.tracking }
    case 'PaymentDeclined':
      return at('declined')
    case 'PaymentAuthorized':
      return at('paid')
    case 'InventoryReserved':
      return at('reserved')
    case 'OrderCancelled':
      return at('cancelled')
    case 'OrderFulfilled':
      return at('fulfilled')
    default:
      return found
  }
}

function withSkus({ skus }: Found, items: readonly { readonly sku: string }[]): string[] {
  return [...new Set([...skus, ...items.map(({ sku }) => sku)])].sort()
}

/** What an event adds to the terms of its order. */
function addedTerms(event: BusinessEvent): string[] {
  switch (event.type) {
    case 'OrderCreated':
      return [event.customerId, event.region, ...event.items.map(({ sku }) => sku)].flatMap(termsOf)
    case 'OrderItemsAdded':
      return event.items.flatMap(({ sku }) => termsOf(sku))
    case 'OrderShipped':
      return termsOf(event.tracking)
    default:
      return []
  }
}

const forgetPrefix = 'term:'

/** The terms are in the row, so they cannot be read with it: each is forgotten a moment later. */
function forget(context: Context, key: string, atMs: number): void {
  const row = context.store('orders').get(key)
  if (row === undefined) return
  context.store('orders').delete(key)
  for (const term of [...row.terms, statuses[row.status]!]) {
    context.schedule({ clock: 'event', atMs: atMs + 1, key, name: `${forgetPrefix}${term}` })
  }
}
