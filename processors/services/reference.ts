/**
 * The reference service: orders beside what is known of their customers and products. Each of
 * the three joins with reference data does what it is for (docs/decisions/0016).
 *
 * in     orders by orderId; customers by customerId; products by sku. A customer or product event
 *        is all that is known from its time on: the last one by time stands
 * time   createdAt. An order gets the segment that its customer had then (as-of join, grace
 *        10 min; without news of customers it comes once their topic is idle); a product has the
 *        name that was read last (global table, exempt from law 16); a contact is that of now
 *        (foreign key)
 * state  orders, customers and products, one row each, kept for ever; customers' versions and
 *        orders that wait for them; windows for `keepMs`; changelogged
 * out    the views `order-contacts`, `segment-sales` and `product-sales`, tumbling 1 h
 * late   orders after end + grace go to the dead letters, counted
 */
import { Type } from 'typebox'
import type { CustomerUpdated, OrderCreated, OrderItem } from '../../contracts/events.ts'
import {
  fieldsKey,
  json,
  type Stream,
  type Table,
  Topology,
  textKey,
  tumbling,
} from '../../streams/index.ts'
import { eventSerde, eventsOnce, ofType, orderKey } from '../analytics/event-streams.ts'
import { graceMs, hourMs } from '../analytics/view-times.ts'
import { addSafe, multiplySafe } from '../safe-sum.ts'
import type { ServiceSettings } from './settings.ts'

type Orders = Stream<string, OrderCreated>
type Customers = Table<string, CustomerUpdated>

const customerKey = textKey('customerId')
const productKey = textKey('sku')
const minor = 'minor currency units'
const windows = tumbling(hourMs, { graceMs })
const orNull = (description: string) => Type.Union([Type.String(), Type.Null()], { description })
const count = (description: string) => Type.Integer({ description })

export function referenceTopology({ keepMs }: ServiceSettings): Topology {
  const topology = new Topology('reference')
  const orders = ofType(eventsOnce(topology, 'orders'), 'OrderCreated')
  const customers = ofType(eventsOnce(topology, 'customers'), 'CustomerUpdated').toTable({
    name: 'customers',
    key: customerKey,
    value: json<CustomerUpdated>(),
  })
  contacts(orders, customers)
  segmentSales(orders, customers, keepMs)
  productSales(orders, keepMs)
  return topology
}

/** Orders refer to customers, and follow them when they change. */
function contacts(orders: Orders, customers: Customers): void {
  orders
    .mapValues(({ customerId, totalMinor, currency }) => ({ customerId, totalMinor, currency }))
    .toTable({ name: 'contact-orders', key: orderKey, value: json() })
    .leftJoinForeign(
      customers,
      (order, customer) => ({
        ...order,
        name: customer?.name ?? null,
        email: customer?.email ?? null,
      }),
      { name: 'order-contacts', foreignKey: ({ customerId }) => customerId },
    )
    .view({
      name: 'order-contacts',
      description: 'Whom to ask about each order, as known now',
      value: {
        customerId: Type.String({ description: 'Who ordered' }),
        totalMinor: count('What the customer owed when the order was placed'),
        currency: Type.String(),
        name: orNull('Of the customer; null where nothing is known'),
        email: orNull('Of the customer; null where nothing is known'),
      },
      units: { totalMinor: minor },
    })
}

interface Sales {
  readonly orders: number
  readonly grossMinor: number
}

/** The segment of then: a customer who becomes a better one later changes no sale of before. */
function segmentSales(orders: Orders, customers: Customers, retentionMs: number): void {
  const value = json<OrderCreated>()
  orders
    .selectKey(({ customerId }) => customerId)
    .repartition({ name: 'orders-by-customer', key: customerKey, value })
    .leftJoinAsOf(
      customers,
      ({ currency, totalMinor }, customer) => ({
        segment: customer?.segment ?? 'unknown',
        currency,
        totalMinor,
      }),
      { name: 'orders-by-segment', graceMs, written: { key: customerKey, value } },
    )
    .groupBy(({ segment, currency }) => ({ segment, currency }), {
      name: 'by-segment',
      key: fieldsKey('segment', 'currency'),
    })
    .windowedBy(windows)
    .aggregate<Sales>({
      name: 'segment-sales',
      initial: () => ({ orders: 0, grossMinor: 0 }),
      add: (sales, { totalMinor }) => ({
        orders: sales.orders + 1,
        grossMinor: addSafe(sales.grossMinor, totalMinor),
      }),
      retentionMs,
    })
    .view({
      name: 'segment-sales',
      description: 'Orders an hour by the segment that the customer was in when ordering',
      value: { orders: count('Orders created'), grossMinor: count('Sum of their totals') },
      units: { grossMinor: minor },
    })
}

interface Sold {
  readonly name: string | null
  readonly quantity: number
  readonly grossMinor: number
}

/** Items name products by their sku, each item another one: no order is moved to find them. */
function productSales(orders: Orders, retentionMs: number): void {
  const products = orders.topology.globalTable('products', { key: productKey, value: eventSerde })
  orders
    .flatMap(({ currency, items }) => items.map(item => [currency, item] as const))
    .leftJoinGlobal(
      products,
      (item, product, currency) => ({
        ...(item as OrderItem),
        currency: currency as string,
        name: product?.type === 'ProductUpdated' ? product.name : null,
      }),
      { name: 'items-by-name', by: ({ sku }) => sku },
    )
    .groupBy(({ sku, currency }) => ({ sku, currency }), {
      name: 'by-product',
      key: fieldsKey('sku', 'currency'),
    })
    .windowedBy(windows)
    .aggregate<Sold>({
      name: 'product-sales',
      initial: () => ({ name: null, quantity: 0, grossMinor: 0 }),
      add: (sold, { name, quantity, unitPriceMinor }) => ({
        name: name ?? sold.name,
        quantity: addSafe(sold.quantity, quantity),
        grossMinor: addSafe(sold.grossMinor, multiplySafe(quantity, unitPriceMinor)),
      }),
      retentionMs,
    })
    .view({
      name: 'product-sales',
      description: 'What was sold of each product an hour, with its name',
      value: {
        name: orNull('Of the product; null where nothing is known'),
        quantity: count('Items ordered'),
        grossMinor: count('Sum of quantity × unit price'),
      },
      units: { grossMinor: minor },
    })
}
